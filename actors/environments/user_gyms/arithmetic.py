"""Arithmetic that strangers wrote: + - * / and powers of letters and numbers, evaluated by their tree, in floats."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache

LONGEST = 500  # letters of an expression
OPERATIONS: Mapping[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


class NoValue(ArithmeticError):
    """An expression that has no real, finite value here: a division by zero, a root of a negative number."""


def evaluate(expression: str, values: Mapping[str, float]) -> float:
    """The value where each letter stands for its number. Floats throughout, so that no power takes time or memory.

    Raises ValueError on anything that is no such expression, NoValue where it has no value.
    """
    try:
        result = _value(_tree(expression), {name: float(value) for name, value in values.items()})
    except (ZeroDivisionError, OverflowError) as error:
        raise NoValue(str(error)) from error
    if isinstance(result, complex) or not math.isfinite(result):
        raise NoValue(f"{expression} has no finite value")
    return result


@lru_cache(maxsize=4096)
def _tree(expression: str) -> ast.expr:
    if len(expression) > LONGEST:
        raise ValueError(f"has {len(expression)} letters, more than {LONGEST}")
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"is no expression: {type(error).__name__}") from error


def _value(node: ast.expr, values: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.Name):
        if node.id not in values:
            raise ValueError(f"knows no {node.id}; there are {', '.join(values)}")
        return values[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        left, right = _value(node.left, values), _value(node.right, values)
        result = OPERATIONS[type(node.op)](left, right)
        if isinstance(result, complex):
            raise NoValue("a root of a negative number")
        return result
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATIONS:
        return OPERATIONS[type(node.op)](_value(node.operand, values))
    raise ValueError(f"holds {type(node).__name__}, which is no arithmetic")
