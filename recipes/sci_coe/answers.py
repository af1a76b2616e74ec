"""Whether a solution's answer is right: numbers within a relative tolerance, letters and anything else by their worth.

`ScienceAnswer` is a verifier for any recipe; `Solved` asks it, or another, about solutions alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from raylign.actors.reward.alternatives import alternatives
from raylign.actors.reward.asking import asked_or
from raylign.actors.reward.forms import Form, announced, answer_in, written
from raylign.actors.reward.marking import equal
from raylign.actors.reward.numeric import numbers_in
from raylign.actors.reward.quantities import scale, without_unit
from raylign.actors.reward.response import ResponseReward
from raylign.actors.reward.spelling import spelled
from raylign.config.build import build
from raylign.config.schema import Node, node
from raylign.contracts import RewardFunction
from raylign.recipes.sci_coe.roles import VERIFIES, role_of
from raylign.records import Prompt, Trajectory, Value

UNIT = "unit"  # column of the data with the gold number's unit, as SciBench has it
POWER_OF_TEN = re.compile(r"[\s$]*(?:\\mathrm\s*\{)?\s*10\s*\^\s*\{?\s*([+-]?\s*\d{1,3})")
ALONE = re.compile(  # nothing but a number
    r"[\s$+\-\u2212]*[\d.,\s]*\d[\d.,]*(?:\s*(?:\\times|\\cdot|x|\*|e)[\s\d^{}+\-]*)?[\s$]*", re.IGNORECASE
)
SHOWN = 200


class ScienceAnswer(ResponseReward):
    r"""1 when the answer in the form that the prompt asks for, else in ``\boxed{}`` or as announced, is right; else 0.

    A gold number: a number within `tolerance` of it, relative to it. Where the data's column ``unit`` names a unit that
    is known, an answer in another unit is converted, and one of other dimensions is wrong; where that column begins
    with a power of ten, the number may be written out as well. Letters of multiple choice, formulas and words: the same
    by `raylign.actors.reward.marking`.
    """

    isolated = True
    cpu_s = 2.0

    @dataclass
    class Config:
        """How near a number must be."""

        tolerance: float = 0.01  # relative; 0.05 suits quantities read off tables and constants

        def __post_init__(self) -> None:
            if not 0 <= self.tolerance < 1:
                raise ValueError(f"tolerance={self.tolerance} is a share of the gold number: 0 or more, below 1")

    config: Config

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Compare with the gold answers, any of which counts. Raises ValueError when there is none."""
        golds = alternatives(prompt.answer)
        answer = answer_in(response, asked_or(prompt, Form.boxed)) or announced(response)
        if answer is None:
            return Value(score=0.0, details={"parsed": None})
        right = any(self._same(prompt, gold.strip(), answer.strip()) for gold in golds)
        return Value(score=float(right), details={"parsed": answer[:SHOWN]})

    def gold(self, prompt: Prompt) -> str | None:
        """The first gold answer in the form that the prompt asks for. Raises ValueError without one."""
        return self._written(prompt, alternatives(prompt.answer)[0].strip())

    def wrong(self, prompt: Prompt) -> str | None:
        """A number that no answer is likely to be."""
        return self._written(prompt, "-9876543.21")

    def _same(self, prompt: Prompt, gold: str, answer: str) -> bool:
        numbers = numbers_in(gold) if ALONE.fullmatch(gold) else []
        if len(numbers) != 1:
            return equal(gold, answer)
        said, unit = answer.rpartition("=")[2], str(prompt.meta.get(UNIT) or "")
        given, power = numbers_in(said), POWER_OF_TEN.match(unit)
        factor = _factor(f"1 {unit[power.end() :].lstrip('} ') if power else unit}", said)
        if not given or factor is None:
            return False
        ten = Fraction(10) ** int(power[1].replace(" ", "")) if power else Fraction(1)
        limit = Fraction(self.config.tolerance)
        return any(abs(given[0] * factor - want) <= limit * abs(want) for want in (numbers[0], numbers[0] * ten))

    def _written(self, prompt: Prompt, answer: str) -> str:
        return written(answer, asked_or(prompt, Form.boxed))


def _factor(gold: str, answer: str) -> Fraction | None:
    """What the answer's unit is of the gold's: 1 where one is not known, None where they measure other things."""
    names = [without_unit(spelled(text))[1] for text in (gold, answer)]
    known = [name for name in names if name is not None and name.unit is not None]
    return scale(known[0], known[1]) if len(known) == len(names) else Fraction(1)


class Solved(RewardFunction):
    """What `answers` says of a solution; does not apply to a strategy, nor to a prompt without a gold answer.

    With weight 0 it shows how labels that training does not see stand to what it believes.
    """

    @dataclass
    class Config:
        """Who compares."""

        answers: Node = node(RewardFunction, "raylign.recipes.sci_coe.ScienceAnswer")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._answers: RewardFunction = build(RewardFunction, config.answers, "answers")
        self.isolated, self.maximum, self.cpu_s = (
            self._answers.isolated,
            self._answers.maximum,
            self._answers.cpu_s,
        )

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> Sequence[Value | None]:
        """None for strategies, and for all where there is no gold answer."""
        if prompt.answer is None:
            return [None] * len(trajectories)
        return [
            None if role_of(trajectory) == VERIFIES else self._answers.score(prompt, [trajectory])[0]
            for trajectory in trajectories
        ]

    def cpu_limit(self, prompt: Prompt) -> float | None:
        """That of who compares."""
        return self._answers.cpu_limit(prompt)

    def gold(self, prompt: Prompt) -> str | None:
        """That of who compares; none without a gold answer."""
        return None if prompt.answer is None else self._answers.gold(prompt)

    def wrong(self, prompt: Prompt) -> str | None:
        """That of who compares; none without a gold answer."""
        return None if prompt.answer is None else self._answers.wrong(prompt)
