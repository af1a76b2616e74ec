r"""Mathematical answers, marked as an answer sheet would mark them (see `marking`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from raylign.actors.reward.alternatives import alternatives
from raylign.actors.reward.asking import asked, asked_or
from raylign.actors.reward.forms import Form, announced, answer_in, written
from raylign.actors.reward.marking import equal
from raylign.actors.reward.response import ResponseReward, last_boxed
from raylign.records import Prompt, Value

# ANTLR learns its grammar's decisions from what it parses: the first expression costs 100 times the hundredth.
# fmt: off
WARM_UP = (
    r"\frac{14}{3}+1", r"3\sqrt{13}", r"6-5i", r"2x=5", r"x^5-x^4+1", r"\cot{x}", r"\frac{20000}{\pi}", r"2k+2",
    r"\sqrt[3]{4}", r"3R^2", r"\log_2{5}", r"2^{10}+1", r"\frac{x+1}{x-1}", r"2\sin(x)\cos(x)", r"(x+1)(x-2)", r"|x|",
    r"e^{-2}", r"5!", r"\binom{5}{2}", r"5x-7y+11z+4=0", r"x+y>3",
)
# fmt: on
MATH = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
SAID = re.compile(r"\b(?:answer|result)\b[^.\n]*?\b(?:is|are|equals)\b:?\s*([^\n]+?)\s*(?:\.\s|\.?$)", re.IGNORECASE)
LAST_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?%?")


class BoxExtraction(Enum):
    r"""Where the answer is looked for where the prompt asks for no other form than ``\boxed{}``."""

    asked = "asked"  # in \boxed{...} where the prompt asks for it, else as `boxed_or_anywhere` does
    boxed = "boxed"  # the last complete \boxed{...}; a response without one is wrong
    boxed_or_anywhere = "boxed_or_anywhere"  # else any form of `forms`, the last formula, or number of the text


class BoxedMath(ResponseReward):
    r"""1 when the response's answer is the gold one, or one of several, else 0; no answer is 0 too.

    The answer stands where the prompt asks for it (see `forms`): in ``<answer>`` tags, behind ``Answer:`` or ``####``,
    in the last ``\boxed{}``. Where a prompt asks for no form, nobody was told of a box: the answer is then what the
    response says it is, else its last formula or number. What counts as the same is told in `marking` and `worth`.

    A wrong answer is 0 whatever it does to the comparison; only a gold that cannot be compared is an error.
    """

    isolated = True
    cpu_s = 2.0

    @dataclass
    class Config:
        """How the answer is found."""

        extraction: BoxExtraction = BoxExtraction.asked
        longest: int = 500  # characters; a longer answer is wrong, unless the gold is as long

        def __post_init__(self) -> None:
            if self.longest < 1:
                raise ValueError(f"longest is {self.longest}, set it to 1 or more")

    def __init__(self, config: Config) -> None:
        self.config = config
        for expression in WARM_UP:
            equal(expression, f"{expression}+0")

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Compare with the gold answers. Raises ValueError when there is none, or none can be compared."""
        golds = [_content(gold) for gold in alternatives(prompt.answer)]
        answer = answer_in(response, asked_or(prompt, Form.boxed))
        if answer is None and self._anywhere(prompt) and "\\boxed" not in response:  # one that breaks off is none
            answer = _anywhere(response)
        if answer is None:
            return Value(score=0.0, details={"parsed": None})
        return Value(score=float(self._any(golds, answer)), details={"parsed": answer[: self.config.longest]})

    def gold(self, prompt: Prompt) -> str | None:
        """The first gold answer in the form that the prompt asks for."""
        return None if prompt.answer is None else self._written(prompt, _content(alternatives(prompt.answer)[0]))

    def wrong(self, prompt: Prompt) -> str | None:
        """A number that no answer is likely to be."""
        return None if prompt.answer is None else self._written(prompt, "-9876543.21")

    def _anywhere(self, prompt: Prompt) -> bool:
        """Whether an answer counts that stands in no form."""
        extraction = self.config.extraction
        free = extraction is BoxExtraction.asked and asked(prompt) is None
        return free or extraction is BoxExtraction.boxed_or_anywhere

    def _any(self, golds: list[str], answer: str) -> bool:
        errors = []
        for gold in golds:
            if len(answer) > max(self.config.longest, len(gold)):
                continue
            try:
                if equal(gold, answer):
                    return True
            except ValueError as error:
                errors.append(error)
        if len(errors) == len(golds):
            raise errors[0]
        return False

    def _written(self, prompt: Prompt, answer: str) -> str:
        return written(answer, asked_or(prompt, Form.boxed))


def _content(answer: str) -> str:
    boxed = last_boxed(answer)
    return re.sub(r"^\$+|(?<!\\)\$+$", "", answer.strip()).strip() if boxed is None else boxed


def _anywhere(response: str) -> str | None:
    if (answer := announced(response)) is not None:
        return answer
    said = SAID.findall(response)
    formulas = [next(filter(None, groups)) for groups in MATH.findall(said[-1] if said else response)]
    if formulas or said:
        return str(formulas[-1] if formulas else said[-1])
    numbers = LAST_NUMBER.findall(response)
    return str(numbers[-1]) if numbers else None
