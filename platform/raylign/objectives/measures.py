"""Measures that any recipe can use: ratios of sums, and the best of so many samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raylign.contracts import Measure
from raylign.records import Group


class Ratio(Measure):
    """Sum of one metric of trajectories over the sum of another, over all groups: ``ratio``, e.g. questions per turn.

    A mean of each trajectory's own ratio weighs short ones as much as long ones; this does not. Trajectories that lack
    one of the two leave both sums.
    """

    @dataclass
    class Config:
        """Names of metrics that strategies, environments or shapers leave on trajectories."""

        over: str = ""
        under: str = ""

        def __post_init__(self) -> None:
            if not (self.over and self.under):
                raise ValueError(f"over={self.over!r}, under={self.under!r}: name the metrics of both sums")

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Nothing where the lower sum is 0."""
        rows = [trajectory.metrics for group in groups for trajectory in group.trajectories]
        both = [row for row in rows if self.config.over in row and self.config.under in row]
        under = sum(row[self.config.under] for row in both)
        return {"ratio": sum(row[self.config.over] for row in both) / under} if under else {}


class BestOf(Measure):
    """Mean over prompts of the expected best score of n samples of a group, drawn without replacement: ``best_of_n``.

    With scores s_(1) <= ... <= s_(G) it is sum_i C(i - 1, n - 1) / C(G, n) s_(i), which for scores of 0 and 1 is the
    unbiased pass@n of Chen et al. (arXiv:2107.03374, eq. 1). Groups with fewer than n scores leave the mean.
    """

    @dataclass
    class Config:
        """Numbers of samples."""

        samples: tuple[int, ...] = (1, 2, 4, 8)

        def __post_init__(self) -> None:
            if not self.samples or min(self.samples) < 1:
                raise ValueError(f"samples={list(self.samples)}: name numbers of 1 or more")

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """One number for each n that some group is large enough for."""
        known = [np.sort([score for score in group.scores if score is not None]) for group in groups]
        values = {n: [expected_best(scores, n) for scores in known if len(scores) >= n] for n in self.config.samples}
        return {f"best_of_{n}": float(np.mean(bests)) for n, bests in values.items() if bests}


def expected_best(scores: np.ndarray, n: int) -> float:
    """Expected maximum of n of the ascending scores [G], drawn without replacement; n <= G."""
    count = len(scores)
    weights, last = np.zeros(count), n / count  # of the i-th: C(i - 1, n - 1) / C(G, n), from the largest down
    for index in range(count - 1, n - 2, -1):
        weights[index] = last
        last *= (index - n + 1) / index if index else 0.0
    return float(scores @ weights)
