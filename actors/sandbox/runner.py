"""Runs in the locked process: the program, then its calls. Nothing here is trusted once the program has started."""

from __future__ import annotations

import atexit
import json
import linecache
import os
import sys
import threading
import traceback
import types
from typing import Any, NoReturn

from raylign.actors.sandbox.values import decode, encode, shortened

OUT_OF_MEMORY = 86  # exit status of a program that did not catch MemoryError
NAME = "<program>"


def run(code: str, entry: str, calls: list[Any], reply: int) -> NoReturn:
    """Execute the source as ``__main__``, call `entry`, write one line of JSON per call to the descriptor, exit."""
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    sys.argv = [NAME]
    linecache.cache[NAME] = (len(code), None, code.splitlines(keepends=True), NAME)
    status = _executed(code, module.__dict__)
    if status == 0 and entry:
        status = _called(module.__dict__.get(entry), entry, calls, reply)
    os._exit(_finished(status))


def _executed(code: str, names: dict[str, Any]) -> int:
    try:
        exec(compile(code, NAME, "exec"), names)
    except SystemExit as end:
        return _status(end)
    except MemoryError:
        return OUT_OF_MEMORY
    except BaseException as error:  # noqa: BLE001 - whatever a program raises is its end
        trace = error.__traceback__
        traceback.print_exception(type(error), error, trace.tb_next if trace else None)
        return 1
    return 0


def _called(function: Any, entry: str, calls: list[Any], reply: int) -> int:
    with os.fdopen(reply, "w", encoding="ascii") as out:
        for arguments in calls:
            try:
                if function is None:
                    raise NameError(f"the program defines no {entry}")
                line = json.dumps([shortened(encode(function(*decode(arguments))))])
            except MemoryError:
                return OUT_OF_MEMORY
            except BaseException as error:  # noqa: BLE001 - an answer like any other
                line = json.dumps({"error": f"{type(error).__name__}: {error}"[:300]})
            out.write(line + "\n")
            out.flush()  # a later call may be the end of the process
    return 0


def _finished(status: int) -> int:
    """What the interpreter does at its end: wait for threads, run exit functions, flush."""
    try:
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - the program's exit functions and streams may be anything
        return status or 1
    return status


def _status(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return (end.code or 0) & 0xFF
    sys.stderr.write(f"{end.code}\n")
    return 1
