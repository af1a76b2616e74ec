"""Logs of the run folder: one file a process, for everything that it says through `logging` below ``raylign``.

An actor's file also receives all that the process prints, native libraries included; the driver's terminal stays its
own, and its file holds what was shown there, with times, and the traceback of what ended the run.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_logger = logging.getLogger("raylign")


def redirect_output(path: str | Path) -> None:
    """Point file descriptors 1 and 2, and the process's log, at the end of a file; SIGUSR1 writes all threads' stacks
    there too.

    Call first thing in an actor.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
    _say_through(logging.StreamHandler(sys.stderr))


class _DriverFile(logging.FileHandler):
    """A log that cannot be written is no error of its own: a full disk is told by what needs the run's files."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing of a disk; of a record that cannot be formatted, what `logging` says."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close it, whether or not its last lines can be written."""
        with suppress(OSError):
            super().close()


@contextmanager
def driver_log(folder: Path) -> Iterator[None]:
    """The log, ``driver.log`` in this folder. An error that leaves the block stands there with its traceback."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = _DriverFile(folder / "driver.log", encoding="utf-8")
    _say_through(handler)
    try:
        yield
    except Exception:
        _logger.exception("the run ended by an error")
        raise
    finally:
        _logger.removeHandler(handler)
        handler.close()


def _say_through(handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter(FORMAT))
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)
