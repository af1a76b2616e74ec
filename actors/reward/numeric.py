"""The final number of a response against a gold number, as GSM8K (arXiv 2110.14168) writes it: ``#### 18``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from raylign.actors.reward.alternatives import alternatives
from raylign.actors.reward.asking import asked, asked_or
from raylign.actors.reward.forms import Form, answer_in, written
from raylign.actors.reward.response import ResponseReward
from raylign.records import Prompt, Value

MARK = "####"
SPACES = "\u00a0\u2007\u2009\u200a\u202f"  # no-break, figure, thin, hair, narrow no-break
LETTERS = str.maketrans(
    {"\u2212": "-", "\u2013": "-", "\uff0d": "-", "\u00d7": "x", "\u00b7": "x", **dict.fromkeys(SPACES, " ")}
)
LATEX = re.compile(r"\\!|\{,\}(?=\d)|\\text\{[^}]{0,80}\}|\\(?=[$%])")  # 10,\!000, 10{,}000, \text{ cm}, \$ and \%
THIN = re.compile(r"\\[,;: ]")
LONGEST = 1000
SHOWN = 200
LARGEST_POWER = 300
CURRENCY = "$\u20ac\u00a3\u00a5"
FRACTION = re.compile(r"(\d?) ?\\[dtc]?frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
POWER = re.compile(
    r"(?<=\d)\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{\s*([+-]?\d+)\s*\}|\(\s*([+-]?\d+)\s*\)|([+-]?\d+))"
)
NUMBER = re.compile(
    r"(?P<mixed>(?<![\d.,/])\d+) (?P<over>\d+)/(?P<parts>\d+)(?![\d./])"
    r"|(?P<whole>(?<!\d )(?<![\d.])\d{1,3}(?: \d{3})+(?! ?\d)|\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
    r"(?P<decimals>\.\d+)?(?:[eE](?P<power>[+-]?\d+)(?![\w.]))?(?:/(?P<under>\d+(?![\d.])))?|\.\d+"
)


class Extraction(Enum):
    """Where the answer is looked for."""

    mark = "mark"  # only after the last ####
    last = "last"  # the last number of the response
    mark_or_last = "mark_or_last"  # after the last ####, else the last number


class NumericAnswer(ResponseReward):
    r"""1 when the response's number equals the gold number, else 0; no number is 0 too.

    Read alike: ``18``, ``18.00``, ``$18``, ``18 dollars``; ``1,800``, ``1 800`` and ``1800``; ``1/2``, ``\frac12`` and
    ``0.5``; ``5 1/2`` and ``5.5``; ``1.5e3``. A number in the form that the prompt asks for (see `forms`) goes before
    any other. Behind the mark the number after the last ``=`` is meant. A per cent sign is dropped like any unit
    (``20%`` is 20), because GSM8K's gold answers carry none. Comparison is exact. Of several gold answers any counts.
    """

    cpu_s = 2.0

    @dataclass
    class Config:
        """How the number is found."""

        extraction: Extraction = Extraction.mark_or_last
        tolerance: float = 0.0  # absolute difference that still counts as equal

        def __post_init__(self) -> None:
            if self.tolerance < 0:
                raise ValueError(f"tolerance is {self.tolerance}, set it to 0 or more")

    def __init__(self, config: Config) -> None:
        self.config = config

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Compare exactly, as fractions. Raises ValueError when the gold answer holds no number."""
        golds = self._golds(prompt)
        number = self._number(prompt, response)
        tolerance = Fraction(self.config.tolerance)
        equal = number is not None and any(abs(number - gold) <= tolerance for gold in golds)
        return Value(score=float(equal), details={"parsed": None if number is None else str(number)[:SHOWN]})

    def gold(self, prompt: Prompt) -> str | None:
        """The first gold answer in the form that the prompt asks for, else behind ``####``."""
        return None if prompt.answer is None else written(alternatives(prompt.answer)[0], asked_or(prompt, Form.mark))

    def wrong(self, prompt: Prompt) -> str | None:
        """A number that differs by more than the tolerance from every gold one."""
        if prompt.answer is None:
            return None
        other = max(self._golds(prompt)) + 1 + Fraction(self.config.tolerance).__ceil__()
        return written(str(other), asked_or(prompt, Form.mark))

    def _number(self, prompt: Prompt, response: str) -> Fraction | None:
        """The number in the form that the prompt asks for, where the response has it; else as the settings say."""
        form = asked(prompt)
        if self.config.extraction is Extraction.mark_or_last and form is not None and form.form is not Form.mark:
            said = answer_in(response, form)
            numbers = numbers_in((said or "").rpartition("=")[2])
            if numbers:
                return numbers[0]
        return extract(response, self.config.extraction)

    def _golds(self, prompt: Prompt) -> list[Fraction]:
        texts = alternatives(prompt.answer)
        golds = [gold for text in texts if (gold := extract(text, Extraction.mark_or_last)) is not None]
        if not golds:
            raise ValueError(f"the gold answer {texts[0][:60]!r} holds no number")
        return golds


def extract(text: str, extraction: Extraction) -> Fraction | None:
    """The number that a text gives as its answer, or None."""
    if extraction is not Extraction.last:
        _, *tails = text.split(MARK)
        lines = [tail.strip().partition("\n")[0] for tail in tails]
        if said := [line for line in lines if line.strip()]:
            line = said[-1].partition(" (")[0]  # what stands in brackets behind the answer is a remark
            numbers = numbers_in(line.rpartition("=")[2]) or numbers_in(said[-1])
            return numbers[0] if numbers else None
        if extraction is Extraction.mark or lines:
            return None
    numbers = numbers_in(text)
    return numbers[-1] if numbers else None


def numbers_in(text: str) -> list[Fraction]:
    """All numbers of a text, in order. ``3-5`` is 3 and 5; ``-5`` and ``= -5`` are -5; ``3/4`` is one number."""
    text = THIN.sub(" ", FRACTION.sub(_fraction, LATEX.sub("", text.translate(LETTERS))))
    text = POWER.sub(lambda match: "e" + "".join(filter(None, match.groups())), text)
    return [number for match in NUMBER.finditer(text) if (number := _number(match, text)) is not None]


def _fraction(match: re.Match[str]) -> str:
    r"""``\frac{1}{2}`` as ``1/2``, ``5\frac{1}{2}`` as ``5 1/2``."""
    whole, over, digit, under, below = match.groups()
    return f"{whole}{' ' if whole else ''}{over or digit}/{under or below}"


def _number(match: re.Match[str], text: str) -> Fraction | None:
    sign = _sign(text[: match.start()])
    if match.group("mixed"):
        whole, over, parts = (int(match.group(name)[:LONGEST]) for name in ("mixed", "over", "parts"))
        return sign * (whole + Fraction(over, parts)) if parts else None
    power = int((match.group("power") or "0")[:5])
    if abs(power) > LARGEST_POWER:
        return None
    under = match.group("under")
    if under and not under.strip("0"):
        return None
    # Python refuses to read integers of more than 4300 digits; a thousand are as far from any answer.
    whole_text = (match.group("whole") or "").replace(",", "").replace(" ", "")
    digits = whole_text + (match.group("decimals") or "") or match.group()
    return sign * Fraction(digits[:LONGEST]) * Fraction(10) ** power / (int(under[:LONGEST]) if under else 1)


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
