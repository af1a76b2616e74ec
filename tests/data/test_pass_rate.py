"""Pass rates: who says solved, what was not measured, and the ratios that a screen and a curriculum go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from raylign import testing
from raylign.data.pass_rate import by_grade, passes, solve_ratios, solved
from raylign.errors import ConfigError
from raylign.objectives.shaping import correctness_reward
from raylign.records import Absent, Group, Missing, Reward, Value
from raylign.testing import call, trajectory


def group(rewards: Sequence[Mapping[str, Reward]], scores: Sequence[float | None] = ()) -> Group:
    samples = [trajectory(call(tokens=3), rewards=dict(own)) for own in rewards]
    return testing.group(*samples, scores=scores)


RIGHT, WRONG, LOST = Value(score=1.0), Value(score=0.4), Missing(reason="timeout")


def test_the_only_reward_says_solved_and_what_is_missing_is_not_measured() -> None:
    rolled = group([{"a": RIGHT}, {"a": WRONG}, {"a": LOST}, {"a": Absent()}], [1.0, 1.0, 1.0, 1.0])
    assert solved(rolled) == [True, False, None, None] and passes(rolled) == [1.0, 0.0]


def test_of_several_rewards_the_named_one_counts_or_else_the_score() -> None:
    rolled = group([{"a": WRONG, "b": RIGHT}, {"a": RIGHT, "b": LOST}, {"a": RIGHT, "b": RIGHT}], [1.0, None, 0.5])
    assert solved(rolled, "a") == [False, True, True] and solved(rolled, "b") == [True, None, True]
    assert solved(rolled) == [True, None, False]
    assert solved(group([{"a": RIGHT, "b": RIGHT}])) == [None], "nothing was scored yet"


def test_ratios_per_grade() -> None:
    groups = [group([{"a": RIGHT}, {"a": RIGHT}]), group([{"a": WRONG}, {"a": RIGHT}]), group([{"a": LOST}])]
    metrics = by_grade(groups, [1, 2, 3], "depth")
    assert (metrics["solve_all"], metrics["solve_none"], metrics["informative"]) == (0.5, 0.0, 0.5)
    assert metrics["accuracy/depth_2"] == 0.5 and metrics["solve_all/depth_1"] == 1.0
    assert metrics["length/depth_3"] == 3.0 and "accuracy/depth_3" not in metrics, "absent is not zero"
    assert solve_ratios([]) == {}


def test_the_reward_of_correctness_is_named_or_clear() -> None:
    weights = {"correct": 1.0, "logged": 0.0}
    assert correctness_reward("shaper.reward", "", weights) == "correct"
    assert correctness_reward("shaper.reward", "logged", weights) == "logged"
    for name, given in (("corect", weights), ("", {"a": 1.0, "b": 1.0}), ("", {})):
        with pytest.raises(ConfigError, match=r"shaper\.reward"):
            correctness_reward("shaper.reward", name, given)
