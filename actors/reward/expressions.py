"""Expressions in LaTeX, read by latex2sympy and compared by value: in 50 digits, then in 1,000, never by rounding.

What would cost too much to evaluate (``9^{9^{9^9}}``, ``10!!!!``) is refused before it is evaluated.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from raylign.actors.reward.cost import TooCostly, affordable

DEEPEST = 20  # nested brackets; latex2sympy's time grows quadratically with them
ROUGH, FINE = 50, 1000  # digits
TINY = "1e-40"
NARROW = 1e-12  # numbers that differ by less are not ordered
POINTS = ("0.7316", "1.9143", "2.6179", "3.3937", "-0.8127", "-1.7391", "-2.8713")
CURRENT = re.compile(r"(?<![a-zA-Z\\{])I(?![a-zA-Z])")  # a letter like any other, which latex2sympy takes for i
RELATIONS = re.compile(r"\\(?:le|ge|ne)(?![a-zA-Z])|<|>|=")


@lru_cache(maxsize=4096)
def read(text: str) -> Any | None:
    """The sympy expression, decimals as fractions, ``i`` the imaginary unit; None where latex2sympy reads none."""
    import sympy
    from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    if _depth(text) > DEEPEST or "'" in text:  # a prime would be dropped
        return None
    config = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
    )
    try:
        plain = normalize_latex(text, config)
        expression = latex2sympy(
            plain,
            is_real=True,
            convert_degrees=False,
            normalization_config=None,
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
        if not isinstance(expression, sympy.Basic | sympy.MatrixBase):
            return None
        if CURRENT.search(plain):
            expression = expression.xreplace({sympy.I: sympy.Symbol("I", real=True)})
        floats = {item: sympy.Rational(str(item)) for item in expression.atoms(sympy.Float)}
        units = {item: sympy.I for item in getattr(expression, "free_symbols", ()) if item.name == "i"}
        return expression.xreplace({**floats, **units}) if floats or units else expression
    except Exception:  # noqa: BLE001 - the grammar raises Exception itself; what it cannot read is no expression
        return None


def same(gold: str, answer: str, factor: Fraction = Fraction(1)) -> bool:
    """Whether gold = answer * factor. Raises TooCostly when the gold cannot be evaluated; a costly answer is wrong."""
    import sympy

    expected = read(gold)
    if expected is None:
        return False
    affordable(expected)
    given = read(answer)
    if given is None:
        return False
    try:
        affordable(given)
    except TooCostly:
        return False
    if _relational(gold) or _relational(answer):
        return factor == 1 and _same_relation(expected, given)
    scaled = given * sympy.Rational(factor.numerator, factor.denominator) if factor != 1 else given
    return _equal(expected, scaled)


def near(text: str, factor: Fraction, value: Fraction, step: Fraction) -> bool:
    """Whether text * factor rounds to `value`, whose last place is worth `step`, and is no number that ends."""
    import sympy

    closed = _closed(text)
    if closed is None or closed[1][1] != 0:
        return False
    expression, number = closed
    exact = expression.doit()
    if exact.is_Rational and _ends(int(exact.q)):
        return False
    difference = number[0] * sympy.Rational(factor.numerator, factor.denominator) - _rational(value)
    return bool(abs(difference) <= _rational(step) / 2)


def real(text: str) -> Any | None:
    """A real number to 50 digits, or an infinity; None for anything else."""
    import sympy

    infinite = {r"\infty": 1, r"+\infty": 1, r"-\infty": -1}.get(text.replace(" ", ""))
    if infinite:
        return infinite * sympy.oo
    closed = _closed(text)
    return closed[1][0] if closed is not None and closed[1][1] == 0 else None


def above_one(text: str) -> bool:
    """Whether a text is a number above 1 in size; a text that is none counts as such."""
    closed = _closed(text)
    return closed is None or bool(abs(closed[1][0]) > 1)


def _closed(text: str) -> tuple[Any, tuple[Any, Any]] | None:
    """An expression without free symbols and its value, real and imaginary part; None for anything else."""
    expression = read(text)
    if expression is None or getattr(expression, "free_symbols", True):
        return None
    try:
        affordable(expression)
        number = _evaluated(expression, ROUGH)
    except (TooCostly, ArithmeticError, TypeError, ValueError, AttributeError):
        return None
    return None if number is None else (expression, number)


def _equal(gold: Any, answer: Any) -> bool:
    import sympy

    if gold == answer:
        return True
    if isinstance(gold, sympy.MatrixBase) and isinstance(answer, sympy.MatrixBase):
        return gold.shape == answer.shape and all(map(_equal, gold.flat(), answer.flat()))
    if not isinstance(gold, sympy.Expr) or not isinstance(answer, sympy.Expr):
        return False
    if any(side.has(sympy.oo, sympy.zoo, sympy.nan, *unfinished()) for side in (gold, answer)):
        return False  # an integral or a sum that is left to be computed answers nothing
    gold, answer = gold.doit(), answer.doit()
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    return gold == answer or (_equal_functions(gold, answer, symbols) if symbols else _equal_numbers(gold, answer))


@cache
def unfinished() -> tuple[Any, ...]:
    """What an answer may not leave undone."""
    import sympy

    return (sympy.Integral, sympy.Derivative, sympy.Limit, sympy.Sum, sympy.Product)


def comparable(text: str) -> bool:
    """Whether a gold leaf can be compared at all. A text that is no expression can: as a text."""
    expression = read(text)
    if expression is None or _relational(text):
        return True
    try:
        affordable(expression)
        _equal(expression, expression * 2 + 1 if not getattr(expression, "is_Matrix", False) else expression * 2)
    except Exception:  # noqa: BLE001 - sympy raises anything
        return False
    return True


def _equal_functions(gold: Any, answer: Any, symbols: list[Any]) -> bool:
    """At seven points, each symbol its own values. Points left of 0 where either is complex count for nothing."""
    import sympy

    agreed = 0
    for number, point in enumerate(POINTS):
        values = {
            symbol: sympy.Rational(point) * (1 + sympy.Rational(place * (number + 3), 29))
            for place, symbol in enumerate(symbols)
        }
        left, right = _evaluated(gold.xreplace(values), ROUGH), _evaluated(answer.xreplace(values), ROUGH)
        if left is None or right is None:
            if left is not right:
                return False
            continue
        if point.startswith("-") and (left[1] or right[1]):
            continue
        if not _close(left, right, sympy.Float(TINY)):
            return False
        agreed += 1
    return agreed > 0


def _equal_numbers(gold: Any, answer: Any) -> bool:
    import sympy

    if gold.is_Rational and answer.is_Rational:
        return bool(gold == answer)
    left, right = _evaluated(gold, ROUGH), _evaluated(answer, ROUGH)
    if left is None or right is None:
        return False
    tiny = sympy.Float(TINY)
    if all(abs(part) < tiny for part in left) or all(abs(part) < tiny for part in right):
        # A sum that cancels has no digits of its own left to compare.
        return bool(sympy.simplify(gold - answer) == 0)
    if not _close(left, right, tiny):
        return False
    left, right = _evaluated(gold, FINE), _evaluated(answer, FINE)
    return left is not None and right is not None and _close(left, right, sympy.Float(f"1e-{FINE - 100}", FINE))


def _close(left: tuple[Any, Any], right: tuple[Any, Any], relative: Any) -> bool:
    size = max(abs(part) for part in (*left, *right))
    return all(abs(a - b) <= size * relative for a, b in zip(left, right, strict=True))


def _evaluated(expression: Any, digits: int) -> tuple[Any, Any] | None:
    """Real and imaginary part; None where there is no finite number."""
    number = expression.evalf(digits, maxn=2 * digits)
    real, imaginary = number.as_real_imag()
    if not (real.is_Number and imaginary.is_Number and real.is_finite and imaginary.is_finite):
        return None
    return real, imaginary


def _same_relation(gold: Any, answer: Any) -> bool:
    """Both sides on one side, up to a factor: ``2x+3=y`` is ``y-2x-3=0``; for inequalities a positive factor."""
    import sympy
    from sympy.core.relational import Relational

    if not isinstance(gold, Relational) or not isinstance(answer, Relational):
        return False
    kinds = []
    for relation in (gold, answer):
        flipped = isinstance(relation, sympy.StrictGreaterThan | sympy.GreaterThan)
        strict = isinstance(relation, sympy.StrictGreaterThan | sympy.StrictLessThan)
        difference = (relation.rhs - relation.lhs) if flipped else (relation.lhs - relation.rhs)
        kind = "=" if isinstance(relation, sympy.Eq) else "!" if isinstance(relation, sympy.Ne) else f"<{strict}"
        kinds.append((kind, difference.doit()))
    (kind, left), (other, right) = kinds
    if kind != other or not left.free_symbols or left.free_symbols != right.free_symbols:
        return False
    symbols = sorted(left.free_symbols, key=str)
    values = {symbol: sympy.Rational(POINTS[0]) * (1 + place) for place, symbol in enumerate(symbols)}
    here, there = left.xreplace(values), right.xreplace(values)
    if here.is_zero or there.is_zero:
        return False
    ratio = here / there
    if kind.startswith("<") and not ratio.is_positive:
        return False
    return _equal_functions(left, right * ratio, symbols)


def _relational(text: str) -> bool:
    return bool(RELATIONS.search(text))


def _depth(text: str) -> int:
    depth = deepest = 0
    for letter in text:
        depth += (letter in "([{|") - (letter in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _rational(number: Fraction) -> Any:
    import sympy

    return sympy.Rational(number.numerator, number.denominator)


def _ends(below: int) -> bool:
    return math.gcd(below, 10 ** below.bit_length()) == below
