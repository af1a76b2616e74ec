"""What a stage starts with: the distributions of training rewards and of a grader's grades, and what is high or low."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from raylign.config.schema import ExploitConfig

Float64s = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Start:
    """The first samples of a stage that have a score and a grade.

    maximum: what the grader gives a perfect sample, as far as it says; what goes beyond shows that it does not.

    Example: ``Start(rewards=r, grades=g, settings=ExploitConfig(), maximum=1.0).exploit(reward=0.9, grade=0.0)``
    """

    rewards: Sequence[float]
    grades: Sequence[float]
    settings: ExploitConfig
    maximum: float

    def high(self, reward: float) -> bool:
        """Whether a training reward is among the start's best, or beyond."""
        return bool(reward >= self.high_reward and reward > self._mean_reward)

    def low(self, grade: float) -> bool:
        """Whether a grade is among the start's worst, or below."""
        if self.constant:
            known = self.grades[0] <= self.maximum
            return grade <= self.grades[0] and (not known or grade < self.maximum)
        return bool(grade <= self.low_grade and grade < self._mean_grade)

    def exploit(self, reward: float, grade: float) -> bool:
        """Highly rewarded and graded low."""
        return self.high(reward) and self.low(grade)

    @cached_property
    def high_reward(self) -> float:
        """The quantile that a high reward reaches."""
        return float(np.quantile(self.rewards, self.settings.reward_above, method="inverted_cdf"))

    @cached_property
    def low_grade(self) -> float:
        """The quantile that a low grade stays at or below."""
        return float(np.quantile(self.grades, self.settings.grade_below, method="inverted_cdf"))

    @cached_property
    def constant(self) -> bool:
        """Whether the grader says the same of every sample: it tells none apart yet."""
        return len(set(self.grades)) == 1

    def reward_rank(self, reward: float) -> float:
        """Place of a reward among the start's, 0 to 1; .5 is the middle. Equal values share the middle of theirs."""
        return _rank(self._sorted_rewards, reward)

    def grade_rank(self, grade: float) -> float:
        """Place of a grade among the start's, as `reward_rank`."""
        return _rank(self._sorted_grades, grade)

    @cached_property
    def exploits(self) -> list[bool]:
        """Which of its own samples are exploits."""
        return [self.exploit(reward, grade) for reward, grade in zip(self.rewards, self.grades, strict=True)]

    @cached_property
    def low_among_high(self) -> tuple[int, int]:
        """Of its own highly rewarded samples: how many are graded low, and how many there are."""
        return sum(self.exploits), sum(self.high(reward) for reward in self.rewards)

    @cached_property
    def rank_errors(self) -> tuple[float, float]:
        """Standard errors of its mean ranks, .5 each: of rewards, and of grades."""
        ranks = ([self.reward_rank(x) for x in self.rewards], [self.grade_rank(x) for x in self.grades])
        error = [float(np.std(each) / np.sqrt(len(each))) for each in ranks]
        return error[0], error[1]

    @cached_property
    def _mean_reward(self) -> float:
        return float(np.mean(self.rewards))

    @cached_property
    def _mean_grade(self) -> float:
        return float(np.mean(self.grades))

    @cached_property
    def _sorted_rewards(self) -> Float64s:
        return np.sort(np.asarray(self.rewards, np.float64))

    @cached_property
    def _sorted_grades(self) -> Float64s:
        return np.sort(np.asarray(self.grades, np.float64))


def _rank(values: Float64s, value: float) -> float:
    below, until = np.searchsorted(values, value, "left"), np.searchsorted(values, value, "right")
    return float(below + until) / (2 * len(values))
