"""What an expression would cost to evaluate: about how many digits its values have, told without evaluating it."""

from __future__ import annotations

from typing import Any

LARGEST = 20_000.0  # decimal digits of a value that is still evaluated
CHEAP = 1000.0  # digits up to which an exponent is evaluated to tell its size


class TooCostly(ValueError):
    """An expression that is not evaluated, because its value is out of all proportion."""


def affordable(expression: Any) -> None:
    """Raises TooCostly where some value on the way has more than `LARGEST` digits."""
    import sympy

    sizes: dict[Any, float] = {}
    for node in sympy.postorder_traversal(expression):
        inner = [sizes.get(argument, 0.0) for argument in node.args]
        sizes[node] = _digits(node, inner)
        if sizes[node] > LARGEST:
            raise TooCostly(f"a value of more than {LARGEST:g} digits")


def _digits(node: Any, inner: list[float]) -> float:
    """About how many decimal digits the value has (before the point or behind it)."""
    import sympy

    if node.is_Number if hasattr(node, "is_Number") else False:
        return float(len(str(node))) if node.is_finite else 1.0
    if isinstance(node, sympy.factorial | sympy.gamma | sympy.factorial2 | sympy.subfactorial):
        size = min(float(abs(node.args[0])), 1e9) if node.args[0].is_Number else _power_of_ten(inner[0])
        return size * max(1.0, inner[0])
    if isinstance(node, sympy.Pow | sympy.exp):
        base = 0.5 if isinstance(node, sympy.exp) or not node.args[0].is_Number else max(1.0, inner[0])
        exponent = node.args[-1]
        if exponent.is_Number:
            return base * min(float(abs(exponent)), 1e9)
        return base * (_size(exponent, inner[-1]) if not exponent.free_symbols else 1.0)
    if isinstance(node, sympy.Mul):
        return sum(inner)
    return max(inner, default=0.0) + 1.0


def _size(exponent: Any, digits: float) -> float:
    """How large an exponent is: evaluated where that is cheap, else what its digits allow."""
    size = exponent.evalf(15) if digits <= CHEAP else None
    return min(float(abs(size)), 1e9) if size is not None and abs(size).is_Float else _power_of_ten(digits)


def _power_of_ten(digits: float) -> float:
    return 10.0 ** min(digits, 12.0)
