"""Small sympy programs in a killable process: refused by their syntax tree, or run in a fork with limits.

A server process imports sympy once and forks for every program. The child gets limits on CPU time and memory, may
write no file, inherits no environment, and is killed at the deadline. The refusal list keeps honest generated programs
honest; the process limits contain the rest. The network is not cut off: where composers are not trusted, run the stage
in a container without one.
"""

from __future__ import annotations

import ast
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Any

FAILED = "failed: "
REFUSED = "refused: "
START_S = 120.0
MEMORY = 2 << 30
LONGEST = 4000  # characters of output
MODULES = frozenset({"sympy", "math", "fractions", "decimal"})
# fmt: off
FORBIDDEN = frozenset({
    "open", "exec", "eval", "compile", "input", "globals", "locals", "vars", "getattr", "setattr", "delattr", "dir",
    "memoryview", "chr", "bytes", "bytearray", "type", "object", "super", "classmethod", "staticmethod", "help",
    "lambdify", "preview", "plot", "sympify", "parse_expr", "S", "decode", "encode", "join", "format", "replace",
    "init_printing", "breakpoint",
})
# fmt: on


def refusal(code: str) -> str | None:
    """Why a program is not run, or None. Raises nothing: what does not parse is refused."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError) as error:
        return f"no Python ({type(error).__name__})"
    for node in ast.walk(tree):
        reason = _refused(node)
        if reason:
            return reason
    return None


def _refused(node: ast.AST) -> str | None:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    else:
        names = []
    for name in names:
        if name.split(".")[0] not in MODULES:
            return f"imports {name}"
    if isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name.startswith("_") or name in FORBIDDEN:
            return f"uses {name}"
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and "__" in node.value:
        return "holds a string with __"  # sympy evaluates strings
    if isinstance(node, ast.ClassDef | ast.AsyncFunctionDef | ast.Global | ast.Nonlocal | ast.With):
        return f"has a {type(node).__name__}"
    return None


class Sandbox:
    """Runs programs one at a time; safe to call from several threads."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        self.timeout_s = timeout_s
        self._server: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def run(self, code: str) -> str:
        """What the program printed, stripped; or a text that begins with `FAILED` or `REFUSED` and says why."""
        reason = refusal(code)
        if reason is not None:
            return f"{REFUSED}{reason}"
        with self._lock:
            server = self._server or self._start()
            assert server.stdin is not None
            try:
                server.stdin.write(json.dumps({"code": code, "timeout_s": self.timeout_s}) + "\n")
                server.stdin.flush()
                return str(json.loads(self._line(server, self.timeout_s + 10.0))["reply"])
            except (OSError, TimeoutError, ValueError) as error:
                self.close()
                return f"{FAILED}the sandbox died ({type(error).__name__})"

    def close(self) -> None:
        """End the server and whatever runs in it."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def _start(self) -> subprocess.Popen[str]:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "raylign.recipes.composition_rl.sandbox"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "OMP_NUM_THREADS": "1",
            },
        )
        self._line(self._server, START_S)
        return self._server

    @staticmethod
    def _line(server: subprocess.Popen[str], timeout_s: float) -> str:
        assert server.stdout is not None
        ready, _, _ = select.select([server.stdout], [], [], timeout_s)
        if not ready:
            raise TimeoutError
        line = server.stdout.readline()
        if not line:
            raise OSError("end of file")
        return line


def serve() -> None:
    """The server's loop: a line of JSON in, a line of JSON out, one fork for each."""
    import sympy  # noqa: F401 - imported once, here, for all the forks

    sys.stdout.write('{"ready": true}\n')
    sys.stdout.flush()
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        reply = _forked(request["code"], float(request["timeout_s"]))
        sys.stdout.write(json.dumps({"reply": reply}) + "\n")
        sys.stdout.flush()


def _forked(code: str, timeout_s: float) -> str:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.dup2(write, 1)
        os._exit(_execute(code, timeout_s))
    os.close(write)
    output, deadline = b"", time.monotonic() + timeout_s
    while len(output) < LONGEST:
        left = deadline - time.monotonic()
        ready, _, _ = select.select([read], [], [], max(0.0, left))
        piece = os.read(read, 65536) if ready else b""
        if not piece:
            break
        output += piece
    late = time.monotonic() >= deadline
    os.close(read)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if late:
        return f"{FAILED}no end after {timeout_s:g} s"
    text = output.decode(errors="replace").strip()
    return text if text else f"{FAILED}it printed nothing (status {status})"


def _execute(code: str, timeout_s: float) -> int:
    seconds = int(timeout_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        exec(compile(code, "<generated>", "exec"), {"__name__": "__main__"})
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - whatever a generated program raises is its failure
        os.write(1, f"{FAILED}{type(error).__name__}: {error}"[:300].encode())
        return 1
    return 0


if __name__ == "__main__":
    serve()
