"""Stage 1: labels teach both roles what is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from raylign.actors.reward.alternatives import alternatives
from raylign.actors.reward.outcome import Failed
from raylign.actors.reward.worker import RewardWorker
from raylign.chat.thoughts import answer_text
from raylign.config.build import build
from raylign.config.schema import Node, node
from raylign.contracts import RewardFunction
from raylign.errors import RewardError
from raylign.recipes.sci_coe.geometry import Bools, Float64s, separation
from raylign.recipes.sci_coe.judged import RIGHT, VOID, Asked, Judged, Notes
from raylign.recipes.sci_coe.strategy_text import answers_of
from raylign.records import Prompt, Trajectory, Value


class Grading(Enum):
    """What a strategy earns against labels.

    smooth: accepted share of the right solutions minus that of the wrong ones; without a wrong one 2 share - 1.
    strict: of one that accepts every right solution the share of wrong ones that it rejects, of any other minus the
    share of wrong ones that it lets through (CURE); without a wrong one 1 or -1.
    """

    smooth = "smooth"
    strict = "strict"


class Anchored(Judged):
    """R_s = y, whether the solution is right; R_v of a strategy by its verdicts on right and wrong solutions.

    A question that no sample solves says nothing about strategies, and costs no verdict: they have no reward.
    """

    @dataclass
    class Config(Judged.Config):
        """As of all judged rewards; who compares answers, and how strategies are graded."""

        answers: Node = node(RewardFunction, "raylign.recipes.sci_coe.ScienceAnswer")
        answer_s: float = 30.0  # seconds of one comparison
        grading: Grading = Grading.smooth

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._function: RewardFunction = build(RewardFunction, config.answers, "answers")
        self._answers = RewardWorker(config.answers, "answers", config.answer_s, "")

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value | None]:
        """See the class. Raises RewardError where an answer cannot be compared, JudgeUnavailable without the judge."""
        golds = alternatives(prompt.answer)
        asked = self.asked(prompt, trajectories, {*golds, *answers_of([answer_text(prompt, t) for t in trajectories])})
        right = self._right(prompt, [trajectories[number] for number in asked.solvers])
        notes: Notes = ([{"right": bool(label)} for label in right], [{} for _ in asked.strategies])
        if not right.any() or not asked.strategies:
            return self.values(asked, None, [*map(float, right)], [None] * len(asked.strategies), notes)
        matrix = self.matrix(prompt, asked)
        return self.values(asked, matrix, [*map(float, right)], self._strategies(asked, matrix.verdicts, right), notes)

    def gold(self, prompt: Prompt) -> str | None:
        """A right answer. Raises ValueError where the prompt has none: this stage learns from labels."""
        alternatives(prompt.answer)
        return self._function.gold(prompt)

    def wrong(self, prompt: Prompt) -> str | None:
        """A wrong answer."""
        return self._function.wrong(prompt)

    def _right(self, prompt: Prompt, solutions: Sequence[Trajectory]) -> Bools:
        outcomes, _ = self._answers.score([(prompt, (solution,)) for solution in solutions])
        while len(outcomes) < len(solutions):  # the worker gives back what one comparison's time did not suffice for
            more, _ = self._answers.score([(prompt, (solution,)) for solution in solutions[len(outcomes) :]])
            outcomes += more
        labels = []
        for outcome in outcomes:
            if isinstance(outcome, Failed) or outcome[0] is None:
                why = outcome.reason if isinstance(outcome, Failed) else "who compares says that it does not apply"
                raise RewardError(f"an answer could not be compared: {why}")
            labels.append(outcome[0].score >= RIGHT * self._function.maximum)
        return np.array(labels, bool)

    def _strategies(self, asked: Asked, verdicts: Float64s, right: Bools) -> list[float]:
        graded = graded_by_labels(verdicts, right, self.config.grading)
        spoken = set(asked.spoken.tolist())
        return [float(graded[column]) if column in spoken else VOID for column in range(len(graded))]


def graded_by_labels(verdicts: Float64s, right: Bools, grading: Grading) -> Float64s:
    """[M] reward of every strategy, between -1 and 1, see `Grading`; over the verdicts that there are.

    verdicts: [N, M]; right: [N], at least one true. A strategy without a verdict on a right solution has 0.
    """
    counts = [(~np.isnan(verdicts[side])).sum(axis=0) for side in (right, ~right)]
    accepted, passed = (
        np.nansum(verdicts[side], axis=0) / np.maximum(count, 1)
        for side, count in zip((right, ~right), counts, strict=True)
    )
    if grading is Grading.smooth:
        graded = np.where(counts[1] > 0, separation(verdicts, right), 2 * accepted - 1)
    else:
        good = accepted >= 1.0
        graded = np.where(counts[1] > 0, np.where(good, 1 - passed, -passed), np.where(good, 1.0, -1.0))
    return np.where(counts[0] > 0, graded, 0.0)
