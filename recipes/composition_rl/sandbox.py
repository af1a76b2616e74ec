"""Small sympy programs: refused by their syntax tree, or run in the platform's sandbox.

The refusal list keeps generated programs to the few modules that a composition needs; what contains a program is the
sandbox's process, whatever the list misses.
"""

from __future__ import annotations

import ast

from raylign.actors.sandbox.contract import Ending, Program, SandboxError
from raylign.actors.sandbox.local import LocalSandbox
from raylign.actors.sandbox.settings import Limits, SandboxConfig

FAILED = "failed: "
REFUSED = "refused: "
MEMORY_MB = 2048
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
    """Runs programs with sympy at hand; safe to call from several threads."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        self.timeout_s = timeout_s
        limits = Limits(timeout_s=timeout_s, memory_mb=MEMORY_MB)
        self._local = LocalSandbox(SandboxConfig(limits=limits, packages=["sympy", "mpmath"]))

    def run(self, code: str) -> str:
        """What the program printed, stripped; or a text that begins with `FAILED` or `REFUSED` and says why.

        Raises SandboxError when the sandbox itself fails.
        """
        reason = refusal(code)
        if reason is not None:
            return f"{REFUSED}{reason}"
        ran = self._local.run(Program(code=code))
        if ran.reason is Ending.STARVED:
            raise SandboxError("the program waited for a processor until the wall limit; fix: fewer reward workers")
        if ran.reason is Ending.TIMEOUT:
            return f"{FAILED}no end after {self.timeout_s:g} s"
        if ran.reason is not Ending.OK:
            last = ran.stderr.strip().rpartition("\n")[2]
            return f"{FAILED}{last or ran.reason.value}"[:300]
        text = ran.stdout.strip()[:LONGEST]
        return text if text else f"{FAILED}it printed nothing"

    def close(self) -> None:
        """End the sandbox and whatever runs in it."""
        self._local.close()
