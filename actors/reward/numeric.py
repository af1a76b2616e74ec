"""The final number of a response against a gold number, as GSM8K (arXiv 2110.14168) writes it: ``#### 18``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from raylign.actors.reward.response import ResponseReward
from raylign.records import Prompt, Value

MARK = "####"
MINUS = str.maketrans({"\u2212": "-", "\u2013": "-", "\uff0d": "-"})  # minus sign, en dash, full-width hyphen
LATEX = re.compile(r"\\[!,;: ]|\{,\}|\\text\{[^}]*\}|\\(?=[$%])")  # thin spaces, 10{,}000, \text{ cm}, \$ and \%
LONGEST = 1000
CURRENCY = "$\u20ac\u00a3\u00a5"
FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
NUMBER = re.compile(r"(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?P<decimals>\.\d+)?(?:/(?P<under>\d+(?![\d.])))?|\.\d+")


class Extraction(Enum):
    """Where the answer is looked for."""

    mark = "mark"  # only after the last ####
    last = "last"  # the last number of the response
    mark_or_last = "mark_or_last"  # after the last ####, else the last number


class NumericAnswer(ResponseReward):
    """1 when the response's number equals the gold number, else 0; no number is 0 too.

    Read alike: ``18``, ``18.00``, ``$18``, ``18 dollars``; ``1,800`` and ``1800``; ``1/2`` and ``0.5``. A per cent sign
    is dropped like any unit (``20%`` is 20), because GSM8K's gold answers carry none. Comparison is exact.
    """

    @dataclass
    class Config:
        """How the number is found."""

        extraction: Extraction = Extraction.mark_or_last
        tolerance: float = 0.0  # absolute difference that still counts as equal

    def __init__(self, config: Config) -> None:
        self.config = config

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Compare exactly, as fractions. Raises ValueError when the gold answer holds no number."""
        gold = self._gold(prompt)
        found = extract(response, self.config.extraction)
        equal = found is not None and abs(found - gold) <= Fraction(self.config.tolerance)
        return Value(score=float(equal), details={"parsed": None if found is None else str(found)})

    def gold(self, prompt: Prompt) -> str | None:
        """The gold number behind ``####``."""
        return None if prompt.answer is None else f"{MARK} {prompt.answer}"

    def wrong(self, prompt: Prompt) -> str | None:
        """A number that differs by more than the tolerance."""
        if prompt.answer is None:
            return None
        return f"{MARK} {self._gold(prompt) + 1 + Fraction(self.config.tolerance).__ceil__()}"

    def _gold(self, prompt: Prompt) -> Fraction:
        gold = extract(str(prompt.answer), Extraction.mark_or_last)
        if gold is None:
            raise ValueError(f"the gold answer {str(prompt.answer)[:60]!r} holds no number")
        return gold


def extract(text: str, extraction: Extraction) -> Fraction | None:
    """The number that a text gives as its answer, or None."""
    if extraction is not Extraction.last:
        _, mark, tail = text.rpartition(MARK)
        if mark:
            numbers = numbers_in(tail.strip().partition("\n")[0])
            return numbers[0] if numbers else None
        if extraction is Extraction.mark:
            return None
    numbers = numbers_in(text)
    return numbers[-1] if numbers else None


def numbers_in(text: str) -> list[Fraction]:
    """All numbers of a text, in order. ``3-5`` is 3 and 5; ``-5`` and ``= -5`` are -5; ``3/4`` is one number."""
    text = LATEX.sub("", FRACTION.sub(r"\1/\2", text.translate(MINUS)))
    return [number for match in NUMBER.finditer(text) if (number := _number(match, text)) is not None]


def _number(match: re.Match[str], text: str) -> Fraction | None:
    digits, _, under = match.group().replace(",", "").partition("/")
    if under and not under.strip("0"):
        return None
    # Python refuses to read integers of more than 4300 digits; a thousand are as far from any answer.
    value = Fraction(digits[:LONGEST]) / (int(under[:LONGEST]) if under else 1)
    return _sign(text[: match.start()]) * value


def _sign(before: str) -> int:
    """-1 when a minus sign belongs to the number that follows `before`, not to an operand before it."""
    before = before[-16:].rstrip(CURRENCY)
    minus = before.rstrip(" ")
    if not minus.endswith("-"):
        return 1
    ahead = minus[:-1]
    if minus == before:  # -5: a sign unless an operand touches it, as in 10-5
        operator = ahead[-1:].isalnum() or ahead.endswith((")", "]", "%"))
    else:  # - 5: an operator behind an operand, a bullet at the start of a line
        operand = ahead.rstrip(" ")[-1:]
        operator = operand in ("", "\n", ")", "]", "%") or operand.isalnum()
    return 1 if operator else -1
