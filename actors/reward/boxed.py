r"""Mathematical answers in ``\boxed{}``, compared by math-verify (latex2sympy + sympy)."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from raylign.actors.reward.response import ResponseReward, last_boxed
from raylign.records import Prompt, Value

INTEGER = re.compile(r"0|-?[1-9]\d{0,17}")
# ANTLR learns its grammar's decisions from what it parses: the first expression costs 100 times the hundredth.
# fmt: off
WARM_UP = (
    r"\frac{14}{3}", r"3\sqrt{13}", r"-50", r"6-5i", r"x=5", r"1,-2", r"52_8", r"x^5-x^4+1", r"0.15", r"(6,31,-1)",
    r"\cot{x}", r"1\pm\sqrt{19}", r"(3,4]", r"90^\circ", r"\text{even}", r"\begin{pmatrix}1\\2\end{pmatrix}",
    r"(0,9)\cup(9,36)", r"\frac{20000}{\pi}", r"x\in[-2,7]", r"137\frac{1}{2}", r"\$36",
    r"\left(3,\frac{\pi}{2}\right)", r"2k+2", r"10,\!080", r"\{1,2\}", r"(-\infty,2)", r"y=2x+3", r"\sqrt[3]{4}",
    r"3R^2", r"\log_2{5}", r"2^{10}", r"50\%",
)
# fmt: on


class BoxExtraction(Enum):
    """Where the answer is looked for."""

    boxed = "boxed"  # the last complete \boxed{...}; a response without one is wrong
    boxed_or_anywhere = "boxed_or_anywhere"  # else what math-verify finds in the text


class BoxedMath(ResponseReward):
    r"""1 when the boxed expression equals the gold one, else 0; no box, or one that is no mathematics, is 0 too.

    Equal are: identical texts, equal sympy expressions (numbers to 6 decimals), sets, intervals and matrices, and by
    math-verify's rules ``x=5`` and ``5``. A comparison that neither succeeds nor fails (sympy raises) is an error.

    The child process is the deadline: math-verify's own uses `signal.alarm`, which loses to C code and to threads.
    """

    isolated = True

    @dataclass
    class Config:
        """How the answer is found."""

        extraction: BoxExtraction = BoxExtraction.boxed
        longest: int = 500  # characters; a longer box is wrong unless it is the gold text (sympy takes seconds on it)

    def __init__(self, config: Config) -> None:
        self.config = config
        logging.getLogger("math_verify").setLevel(logging.ERROR)  # warns on every call without its own deadline
        for expression in WARM_UP:
            parse(f"\\boxed{{{expression}}}", boxed_only=True)

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Compare with the gold answer. Raises ValueError when that is none, or the two cannot be compared."""
        if prompt.answer is None or not str(prompt.answer).strip():
            raise ValueError("the prompt has no gold answer")
        gold = _content(str(prompt.answer))
        found = last_boxed(response)
        if found is not None:
            readable = len(found) <= max(self.config.longest, len(gold))
            score = float(equal(gold, found) if readable else gold == found)
            return Value(score=score, details={"parsed": found[: self.config.longest]})
        if self.config.extraction is BoxExtraction.boxed:
            return Value(score=0.0, details={"parsed": None})
        loose = parse(response, boxed_only=False)
        score = float(_any_equal(parse(f"\\boxed{{{gold}}}", boxed_only=True), loose))
        return Value(score=score, details={"parsed": str(loose[-1]) if loose else None})

    def gold(self, prompt: Prompt) -> str | None:
        """The gold answer in a box."""
        return None if prompt.answer is None else f"\\boxed{{{_content(str(prompt.answer))}}}"

    def wrong(self, prompt: Prompt) -> str | None:
        """A box with a number that no answer is likely to be."""
        return None if prompt.answer is None else r"\boxed{-9876543.21}"


def equal(gold: str, found: str) -> bool:
    """Whether two expressions (LaTeX, without a box) are the same answer. Raises ValueError when that is undecided."""
    gold, found = gold.strip(), found.strip()
    if gold == found:
        return True
    if INTEGER.fullmatch(gold) and INTEGER.fullmatch(found):
        return False  # canonical spellings of integers differ only when the integers do
    expected = parse(f"\\boxed{{{gold}}}", boxed_only=True)
    if not expected:
        raise ValueError(f"math-verify cannot read the gold answer {gold[:80]!r}")
    return _any_equal(expected, parse(f"\\boxed{{{found}}}", boxed_only=True))


@lru_cache(maxsize=4096)
def parse(text: str, boxed_only: bool) -> tuple[Any, ...]:
    """What math-verify reads in a text: expressions, then the plain string. Cached: samples of a group repeat."""
    import math_verify

    latex = math_verify.LatexExtractionConfig(boxed_match_priority=0)
    kinds = [latex] if boxed_only else [latex, math_verify.ExprExtractionConfig()]
    return tuple(math_verify.parse(text, kinds, parsing_timeout=None))


def _any_equal(expected: Sequence[Any], found: Sequence[Any]) -> bool:
    import math_verify

    errors: list[Exception] = []
    for gold in expected:
        for candidate in found:
            try:
                if math_verify.verify(gold, candidate, timeout_seconds=None, raise_on_error=True):
                    return True
            except Exception as error:  # noqa: BLE001 - sympy raises anything; another pair may still be equal
                errors.append(error)
    if errors:
        raise ValueError(f"the answers cannot be compared: {type(errors[0]).__name__}: {errors[0]}"[:300])
    return False


def _content(answer: str) -> str:
    boxed = last_boxed(answer)
    return answer.strip().strip("$").strip() if boxed is None else boxed
