"""The N x M matrix of verdicts: every strategy carried out on every solution by an external judge.

strategies j = 1 .. M
i = 1   CORRECT   INCORRECT  ...        1 accepted, 0 rejected, NaN without a verdict
...     one question each, cached by (question, solution, strategy)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import partial

import numpy as np

from raylign.actors.judge.blocking import BlockingJudge
from raylign.actors.judge.client import Judge, JudgeCounts
from raylign.errors import JudgeUnreadable, RewardError
from raylign.recipes.sci_coe.geometry import Bools, Float64s
from raylign.recipes.sci_coe.prompts import judge_question
from raylign.records import Message
from raylign.tasks import together

VERDICT = re.compile(
    r"(?P<not>\b(?:not|isn['\u2019]t)\s+(?:entirely\s+|fully\s+)?)?\b(?P<in>in)?correct\b"
    r"|[\"']passed[\"']\s*:\s*(?P<passed>true|false)\b",
    re.IGNORECASE,
)


class Unparsable(Enum):
    """What a reply without a verdict counts for, once the judge has had all its tries."""

    leave_out = "leave_out"  # nothing: it enters no mean
    reject = "reject"  # 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Verdicts of one question, and what they cost.

    Example: ``Matrix(verdicts=[[1., 0.], [1., nan]], asked=4, unparsable=1, counts=JudgeCounts(asked=4, calls=5))``
    """

    verdicts: Float64s  # [N, M]
    asked: int
    unparsable: int
    counts: JudgeCounts


def read_verdict(reply: str) -> bool:
    """The last verdict of a reply: CORRECT or INCORRECT in any case, or ``"passed": true`` of an object.

    Raises ValueError without one.
    """
    said = list(VERDICT.finditer(reply))
    if not said:
        raise ValueError("no CORRECT or INCORRECT")
    if said[-1]["passed"]:
        return said[-1]["passed"].lower() == "true"
    return not said[-1]["in"] and not said[-1]["not"]


def pairs_to_ask(solutions: int, strategies: int, each: int, seed: int) -> Bools:
    """[N, M] which strategy judges which solution. each: solutions that a strategy judges, 0: all.

    Every solution is judged by as many strategies as any other, one more or less.
    """
    if not each or each >= solutions:
        return np.ones((solutions, strategies), bool)
    order = np.random.default_rng(seed).permutation(solutions)
    chosen = np.zeros((solutions, strategies), bool)
    for strategy in range(strategies):
        chosen[order[(strategy * each + np.arange(each)) % solutions], strategy] = True
    return chosen


class MatrixJudge:
    """Asks a judge for matrices; blocks. unparsable: what a reply without a verdict counts for."""

    def __init__(self, judge: BlockingJudge, unparsable: Unparsable) -> None:
        self._judge, self._unparsable = judge, unparsable

    def ask(self, question: str, solutions: Sequence[str], strategies: Sequence[str], pairs: Bools) -> Matrix:
        """The verdicts on these pairs ([N, M]), all asked at once.

        Raises JudgeUnavailable when any of them cannot be asked, and RewardError when a solution ends up without a
        verdict though it was asked about: a group is judged as a whole or not at all.
        """
        places = [(int(i), int(j)) for i, j in np.argwhere(pairs)]
        questions = [judge_question(question, solutions[i], strategies[j]) for i, j in places]
        values, counts = self._judge(partial(_verdicts, questions)) if places else ([], JudgeCounts())
        missing = 0.0 if self._unparsable is Unparsable.reject else np.nan
        verdicts = np.full(pairs.shape, np.nan)
        for place, value in zip(places, values, strict=True):
            verdicts[place] = missing if value is None else float(value)
        bare = np.flatnonzero(pairs.any(axis=1) & np.isnan(verdicts).all(axis=1))
        if len(bare):
            raise RewardError(f"the judge gave no readable verdict on solution {int(bare[0])}")
        unparsable = sum(value is None for value in values)
        return Matrix(verdicts=verdicts, asked=len(places), unparsable=unparsable, counts=counts)


async def _verdicts(
    questions: Sequence[tuple[Message, Message]], judge: Judge
) -> tuple[list[bool | None], JudgeCounts]:
    """One verdict a question, None where no try had one; and what they all cost."""

    async def one(question: tuple[Message, Message]) -> bool | None:
        try:
            return (await judge.ask(question, read_verdict)).value
        except JudgeUnreadable:
            return None

    before = replace(judge.counts)
    values = await together(*(one(question) for question in questions))
    return values, _difference(judge.counts, before)


def _difference(after: JudgeCounts, before: JudgeCounts) -> JudgeCounts:
    return JudgeCounts(**{item.name: getattr(after, item.name) - getattr(before, item.name) for item in fields(after)})
