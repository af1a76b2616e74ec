"""Small sympy programs: which ones are refused by their syntax tree before they run.

The list keeps generated programs to the few modules that a composition needs; what contains a program is the process
that it runs in, whatever the list misses.
"""

from __future__ import annotations

import ast

FAILED = "failed: "  # begins the reply to a program that printed nothing of use
REFUSED = "refused: "  # and to one that was not run
LONGEST, LONGEST_ERROR = 4000, 300  # characters of a reply
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
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"no Python ({type(error).__name__})"
    for node in ast.walk(tree):
        reason = _refused(node)
        if reason:
            return reason
    return None


def reply_of(printed: str, error: str, ending: str = "") -> str:
    """What is told of a program that ran. ending: how it ended, where that was not well."""
    if ending:
        return f"{FAILED}{(error.strip().splitlines() or [ending])[-1]}"[:LONGEST_ERROR]
    return printed.strip()[:LONGEST] or f"{FAILED}it printed nothing"


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
