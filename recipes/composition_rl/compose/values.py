r"""v1: a number derived from an answer, and the words that define it without saying it.

The paper's case list. Without unknowns: a plain number as it is (pi, roots and fractions stay exact); several numbers:
the largest; an interval: its smallest finite end; a ratio: its first part in lowest terms; a numeral in another base:
how many digits it has; an angle: its radians. With unknowns: an expression: the coefficient of its leading term; an
equation: the value of its right-hand side at a chosen point; an option letter or a word: the place of its first letter
in the alphabet; several items: those that are numbers, then as above.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .latex import Unreadable, parse

ANGLE = re.compile(r"\^\s*\{?\s*\\circ\s*\}?$|\\?\s*degrees?$")
BASE = re.compile(r"-?\(?([0-9A-F]+)\)?_\{?\s*(\d+)\s*\}?")
WORD = re.compile(r"\(?([A-Za-z][A-Za-z ,'-]*)\)?")
TEXT = re.compile(r"\\(?:text|mbox|textbf|mathrm)\s*\{([^{}]*)\}")
MATRIX = re.compile(r"\\begin\{[pbv]?(?:matrix|array)\}(.*?)\\end\{[pbv]?(?:matrix|array)\}", re.DOTALL)
POINT = 1  # where an equation is evaluated


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedValue:
    """v1 (an exact sympy number) and a noun phrase that defines it.

    Example: ``DerivedValue(value=Integer(13), phrase="the answer to this problem", plain=True)``
    """

    value: Any
    phrase: str
    plain: bool  # the answer is itself the number


@lru_cache(maxsize=65536)
def derive(answer: str) -> DerivedValue | None:
    """The number that the rules give for an answer, or None when they give none."""
    text = _normal(answer)
    if not text:
        return None
    try:
        return _word(text) or _numeral(text) or _angle(text) or _several(text) or _ratio(text) or _single(text)
    except (Unreadable, ZeroDivisionError):
        return None


def _normal(answer: str) -> str:
    text = answer.strip().strip("$").strip().rstrip(".")
    text = re.sub(
        r"(?<!\\)\\[!,;: ]|\\left|\\right|\\displaystyle|~", lambda match: " " if match.group() == "~" else "", text
    )
    text = text.replace("{,}", "").replace("\\$", "").replace("\\%", " \\text{per cent}").replace("%", "")
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\u2212", "-")
    return text.replace(",", "") if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text) else text


def _word(text: str) -> DerivedValue | None:
    plain = TEXT.sub(r"\1", text).strip()
    match = WORD.fullmatch(plain)
    if not match or (plain == text and not re.fullmatch(r"\(?[A-H]\)?|[A-Za-z]{3,}.*", text)):
        return None
    place = ord(match.group(1)[0].lower()) - ord("a") + 1
    return _derived(place, "the place in the alphabet of the first letter of the answer to this problem")


def _numeral(text: str) -> DerivedValue | None:
    match = BASE.fullmatch(text)
    if not match:
        return None
    return _derived(len(match.group(1)), "the number of digits of the numeral that answers this problem")


def _angle(text: str) -> DerivedValue | None:
    if not ANGLE.search(text):
        return None
    import sympy

    degrees = _number(ANGLE.sub("", text).strip())
    if degrees is None:
        return None
    return _derived(degrees * sympy.pi / 180, "the measure in radians of the angle that answers this problem")


def _several(text: str) -> DerivedValue | None:
    matrix = MATRIX.search(text)
    if matrix:
        return _largest(re.split(r"&|\\\\", matrix.group(1)))
    parts = re.split(r"\\cup", text)
    items = [item for part in parts for item in _items(part)]
    if len(items) < 2:
        return None
    brackets = [part.strip()[:1] + part.strip()[-1:] for part in parts]
    if "infty" in text or len(parts) > 1 or any(pair in ("[)", "(]", "[]") for pair in brackets):
        numbers = [number for number in map(_number, items) if number is not None]
        if not numbers:
            return None
        return _derived(min(numbers), "the smallest finite endpoint in the answer to this problem")
    return _largest(items)


def _largest(items: list[str]) -> DerivedValue | None:
    numbers = [number for number in map(_number, items) if number is not None]
    if not numbers:
        return None
    if all(number == numbers[0] for number in numbers):
        return None
    return _derived(max(numbers), "the largest of the numbers in the answer to this problem")


def _items(part: str) -> list[str]:
    """Top-level pieces between commas, the outer brackets removed."""
    part = part.strip()
    if part[:2] == "\\{" and part[-2:] == "\\}":
        part = part[2:-2]
    elif part[:1] in "([" and part[-1:] in ")]" and "," in part:
        part = part[1:-1]
    pieces, depth, current = [], 0, ""
    for letter in part:
        depth += (letter in "({[") - (letter in ")}]")
        if letter == "," and depth == 0:
            pieces.append(current)
            current = ""
        else:
            current += letter
    return [piece.strip() for piece in (*pieces, current) if piece.strip()]


def _ratio(text: str) -> DerivedValue | None:
    match = re.fullmatch(r"(\d+)\s*:\s*(\d+)", text)
    if not match:
        return None
    from fractions import Fraction

    ratio = Fraction(int(match.group(1)), int(match.group(2)))
    return _derived(ratio.numerator, "the first number of the ratio that answers this problem, in lowest terms")


def _single(text: str) -> DerivedValue | None:
    import sympy

    if text.count("=") == 1:
        left, right = (side.strip() for side in text.split("="))
        value = parse(right)
        if not value.free_symbols:
            return _real(value, "the number in the answer to this problem", plain=False)
        phrase = "the value of the right-hand side of the equation that answers this problem when every variable is"
        at = value.subs(dict.fromkeys(value.free_symbols, POINT))
        return _real(at, f"{phrase} ${POINT}$", plain=False) if left else None
    without = TEXT.sub("", text).strip()
    value = parse(without)
    unknowns = sorted(value.free_symbols, key=str)
    if not unknowns:
        phrase = "the answer to this problem" if without == text else "the number in the answer to this problem"
        return _real(value, phrase, plain=True)
    expanded = sympy.expand(value)
    if not expanded.is_polynomial(*unknowns):
        return None
    leading = sympy.Poly(expanded, *unknowns).LC()
    name = str(unknowns[0])
    return _real(leading, f"the coefficient of the leading term in ${name}$ of the answer to this problem", plain=False)


def _number(text: str) -> Any:
    try:
        value = parse(TEXT.sub("", text).strip())
    except (Unreadable, ZeroDivisionError):
        return None
    return value if value.is_real and value.is_finite else None


def _real(value: Any, phrase: str, plain: bool) -> DerivedValue | None:
    return DerivedValue(value=value, phrase=phrase, plain=plain) if value.is_real and value.is_finite else None


def _derived(value: Any, phrase: str) -> DerivedValue:
    import sympy

    return DerivedValue(value=sympy.sympify(value), phrase=phrase, plain=False)
