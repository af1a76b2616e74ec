"""High rewards and low grades are told from the start's distribution alone, on every scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from raylign.audit.start import Start
from raylign.config.schema import ExploitConfig

Values = list[float]


def start_of(rewards: Values, grades: Values, maximum: float = 1.0) -> Start:
    return Start(rewards=rewards, grades=grades, settings=ExploitConfig(), maximum=maximum)


def binary(ones: int, of: int = 100) -> Values:
    return [1.0] * ones + [0.0] * (of - ones)


@pytest.mark.parametrize("ones", [1, 5, 24, 25, 26, 50, 74, 75, 76, 95, 99])
def test_right_and_wrong_are_told_apart_however_many_were_right(ones: int) -> None:
    start = start_of(binary(ones), binary(ones))
    assert start.high(1.0) and not start.high(0.0)
    assert start.low(0.0) and not start.low(1.0)


@pytest.mark.parametrize(
    "scale", [lambda x: x, lambda x: 1000 * x - 700, lambda x: 1e-6 * x, np.exp, lambda x: -1 / (x + 9)]
)
def test_the_scale_says_nothing(scale: Callable[[float], float]) -> None:
    values = np.random.default_rng(0).normal(size=64)
    plain, scaled = (
        start_of(list(values), list(values)),
        start_of([scale(v) for v in values], [scale(v) for v in values]),
    )
    for value in np.linspace(-3, 3, 61):
        assert plain.reward_rank(value) == scaled.reward_rank(scale(value))
        assert plain.grade_rank(value) == scaled.grade_rank(scale(value))
    assert [plain.high(v) for v in (-2.0, 0.0, 2.0)] == [scaled.high(scale(v)) for v in (-2.0, 0.0, 2.0)]
    assert [plain.low(v) for v in (-2.0, 0.0, 2.0)] == [scaled.low(scale(v)) for v in (-2.0, 0.0, 2.0)]


def test_of_many_values_the_quarters_count() -> None:
    values = [float(value) for value in range(1, 101)]
    start = start_of(values, values)
    assert (start.high_reward, start.low_grade) == (75.0, 25.0)
    assert start.high(75.0) and not start.high(74.9) and start.low(25.0) and not start.low(25.1)
    assert start.low_among_high == (0, 26)


def test_equal_values_share_the_middle_of_theirs() -> None:
    start = start_of(binary(30), binary(30))
    assert (start.reward_rank(0.0), start.reward_rank(1.0)) == (0.35, 0.85)
    assert np.mean([start.reward_rank(reward) for reward in start.rewards]) == pytest.approx(0.5)


def test_where_no_reward_differs_only_more_is_high() -> None:
    start = start_of([0.4] * 20, binary(10, 20))
    assert not start.high(0.4) and start.high(0.5)


def test_grades_that_are_all_the_same_are_low_unless_they_are_the_graders_best() -> None:
    assert start_of(binary(5, 20), [0.0] * 20).low(0.0), "nothing was ever right: right is still to be learned"
    assert not start_of(binary(5, 20), [0.0] * 20).low(1.0)
    assert not start_of(binary(5, 20), [1.0] * 20).low(1.0), "all was right"
    assert start_of(binary(5, 20), [1.0] * 20).low(0.0)
    assert start_of(binary(5, 20), [7.0] * 20).low(7.0), "beyond its maximum: the grader does not say what is best"
    assert not start_of(binary(5, 20), [7.0] * 20, maximum=7.0).low(7.0)
