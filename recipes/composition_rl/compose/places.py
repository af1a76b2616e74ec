"""Numbers in a problem's text: which of them may become the variable v2, in order of preference.

Order of the paper's rules: integers, fractions, decimals, number words; exponents after the other integers; small
values first. Left alone: numbers in drawings and labels, subscripts and bases, parts of mixed numerals, times,
ordinals, numbers of thousands whose commas cannot be told from separators, and every value that the text holds more
than once (which of the occurrences mean the same quantity is for a reader to say, not for a rule).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction

DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
TOKEN = re.compile(
    r"(?P<fraction>\\[dt]?frac\s*\{\s*\d+\s*\}\s*\{\s*\d+\s*\})"
    r"|(?P<thousands>\d{1,3}(?:(?:,\\!|\{,\}|,)\d{3})+(?!\d))"
    r"|(?P<decimal>\d*\.\d+)"
    r"|(?P<integer>\d+)"
    r"|(?P<word>\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b)",
    re.IGNORECASE,
)
WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
# fmt: off
SPOILT_BEFORE = re.compile(
    r"(?:[A-Za-z\d_.\\]|_\{[^{}]*|\\(?:[dt]?frac|sqrt|d?binom)\s*\d*\s*|\\sqrt\[|\d[:/]|\d\s*\^\s*\{?\\frac\{?"
    r"|\\(?:overline|text|mbox|hspace|vspace|begin|color|label)\{[^{}]*|[A-Za-z]-)$"
)
SPOILT_AFTER = re.compile(
    r"(?:[A-Za-z_(\d]|\.\d|[:/]\d|\s*\\[dt]?frac|\\overline|\s*\\left\(|\s*\\ldots|\s*\\(?:choose|over)\b)"
)
# fmt: on
PRODUCT_AFTER = re.compile(r"[a-zA-Z](?![A-Za-z])")  # 4x: in mathematics a coefficient, and no ordinal
EXPONENT = re.compile(r"\^\s*\{?\s*-?\s*$")
SPOILT_WORD = re.compile(r"-(?!digit|sided|dimensional)")


class NumberKind(IntEnum):
    """Preference of a number as the place of the variable; less is better."""

    INTEGER = 0
    EXPONENT = 1
    FRACTION = 2
    DECIMAL = 3
    WORD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A number that stands in a text.

    Example: ``Place(start=7, end=9, literal="12", value=Fraction(12), kind=NumberKind.INTEGER, math=True)``
    """

    start: int
    end: int
    literal: str
    value: Fraction
    kind: NumberKind
    math: bool  # inside $...$, \\[...\\] or \\(...\\)


def places(text: str, own: tuple[int, int]) -> tuple[list[Place], bool]:
    """Places inside `own` that may become a variable, best first, and whether some were left out as not unique."""
    drawings = [match.span() for match in DRAWING.finditer(text)]
    candidates: list[Place] = []
    values: Counter[Fraction] = Counter()
    for match in TOKEN.finditer(text):
        value = _value(match)
        values[value] += own[0] <= match.start() < own[1]
        inside = own[0] <= match.start() and match.end() <= own[1]
        if inside and not any(start <= match.start() < end for start, end in drawings):
            place = _place(text, match, value)
            if place is not None:
                candidates.append(place)
    unique = [place for place in candidates if values[place.value] == 1]
    return sorted(unique, key=lambda place: (place.kind, place.value, place.start)), len(unique) < len(candidates)


def in_math(text: str, position: int) -> bool:
    """Whether a position lies in mathematics, by the delimiters before it."""
    before = text[:position]
    dollars = len(re.findall(r"(?<!\\)\$", before.replace("$$", "$")))
    display = before.count("\\[") - before.count("\\]") + before.count("\\(") - before.count("\\)")
    return dollars % 2 == 1 or display > 0


def substitute(text: str, place: Place, symbol: str) -> str:
    """The text with the number at `place` replaced by the symbol."""
    bare = len(symbol) == 1 and not re.search(r"\\[A-Za-z]+$", text[: place.start])  # \lfloor would swallow it
    name = symbol if bare else "{" + symbol + "}"
    return text[: place.start] + (name if place.math else f"${symbol}$") + text[place.end :]


def _value(match: re.Match[str]) -> Fraction:
    literal = match.group()
    if match.lastgroup == "word":
        return Fraction(WORDS.index(literal.lower()) + 2)
    if match.lastgroup == "fraction":
        upper, under = re.findall(r"\d+", literal)
        return Fraction(int(upper), int(under) or 1)
    return Fraction(re.sub(r"[^\d.]", "", literal))


def _place(text: str, match: re.Match[str], value: Fraction) -> Place | None:
    group, start, end = str(match.lastgroup), match.start(), match.end()
    before, after = text[max(0, start - 60) : start], text[end : end + 12]
    math = in_math(text, start)
    if not math and (re.match(r"-\d", after) or re.search(r"\d-$", before)):
        return None  # a code with dashes
    if group == "thousands" or (group == "word" and (before.endswith("-") or SPOILT_WORD.match(after))):
        return None
    if group == "fraction" and re.search(r"\d\s*$", before):
        return None  # a mixed numeral
    if group in ("integer", "decimal"):
        product = math and PRODUCT_AFTER.match(after)
        if SPOILT_BEFORE.search(before) or (SPOILT_AFTER.match(after) and not product):
            return None
    kind = NumberKind[group.upper()]
    if kind is NumberKind.INTEGER and EXPONENT.search(before):
        if value == 1:
            return None  # a reciprocal or an inverse function, no quantity
        kind = NumberKind.EXPONENT
    return Place(start=start, end=end, literal=match.group(), value=value, kind=kind, math=math)
