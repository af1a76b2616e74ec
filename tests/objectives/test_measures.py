"""Measures of groups against their definitions."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from raylign.objectives.measures import BestOf, Ratio, expected_best
from raylign.records import Group, Prompt, StopReason, Trajectory

PROMPT = Prompt(id="p", messages=(), token_ids=np.zeros(1, np.int32))


def group(scores: list[float | None], metrics: list[dict[str, float]] | None = None) -> Group:
    rows: list[dict[str, float]] = metrics or [{} for _ in scores]
    trajectories = tuple(
        Trajectory(prompt_key="p", sample_index=i, calls=(), seed=0, stop=StopReason.DONE, metrics=row)
        for i, row in enumerate(rows)
    )
    return Group(prompt=PROMPT, trajectories=trajectories, scores=tuple(scores))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_the_expected_best_is_the_mean_over_all_subsets(n: int, seed: int) -> None:
    scores = np.sort(np.random.default_rng(seed).normal(size=7))
    assert expected_best(scores, n) == pytest.approx(np.mean([max(chosen) for chosen in combinations(scores, n)]))


def test_missing_scores_are_no_zeros_and_small_groups_leave_the_mean() -> None:
    measured = BestOf(BestOf.Config(samples=(1, 2, 4))).metrics([group([1.0, None, 0.0]), group([0.5])])
    assert measured == pytest.approx({"best_of_1": 0.5, "best_of_2": 1.0})


def test_a_ratio_is_one_of_sums() -> None:
    rows: list[dict[str, float]] = [{"asked": 1, "turns": 1}, {"asked": 1, "turns": 9}, {"asked": 5}]
    ratio = Ratio(Ratio.Config(over="asked", under="turns"))
    assert ratio.metrics([group([None] * 3, rows)]) == {"ratio": 0.2}
    assert ratio.metrics([group([None], [{"asked": 1, "turns": 0}])]) == {}, "what cannot be measured is left out"


@pytest.mark.parametrize(
    ("cls", "fields"), [(Ratio, {"over": "a"}), (BestOf, {"samples": (0,)}), (BestOf, {"samples": ()})]
)
def test_measures_of_nothing_are_refused(cls: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="name"):
        cls.Config(**fields)
