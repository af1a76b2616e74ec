"""Rewards to scores: absent is not zero, and long answers are masked or punished, never both."""

from __future__ import annotations

import pytest

from raylign import testing
from raylign.loop.scoring import logged, scored
from raylign.objectives.shaping import WeightedSum
from raylign.records import Group, Missing, Reward, Span, StopReason, Trajectory, Value

PROMPT = testing.prompt()


def trajectory(length: int = 3, stop: StopReason = StopReason.EOS, **rewards: Reward) -> Trajectory:
    return testing.trajectory(testing.call(tokens=length, stop=stop), rewards=dict(rewards))


def shape(shaper: WeightedSum, *trajectories: Trajectory) -> Group:
    return logged(shaper, scored(shaper, [Group(prompt=PROMPT, trajectories=trajectories)]))[0]


def test_weighted_sum_and_means() -> None:
    shaper = WeightedSum(WeightedSum.Config(), {"right": 1.0, "form": 0.2}, max_tokens=10)
    group = shape(
        shaper,
        trajectory(right=Value(score=1.0), form=Value(score=0.5)),
        trajectory(right=Value(score=0.0), form=Value(score=1.0)),
    )
    assert group.scores == pytest.approx((1.1, 0.2))
    assert group.metrics["reward/right"] == 0.5
    assert group.metrics["reward/form"] == 0.75
    assert group.metrics["reward/score"] == pytest.approx(0.65)
    assert group.metrics["reward/unscored"] == 0.0


def test_missing_is_not_zero() -> None:
    shaper = WeightedSum(WeightedSum.Config(), {"right": 1.0, "form": 0.2}, max_tokens=10)
    group = shape(
        shaper,
        trajectory(right=Value(score=1.0), form=Missing(reason="timeout")),
        trajectory(right=Value(score=1.0)),
        trajectory(right=Value(score=1.0), form=Value(score=0.0)),
    )
    assert group.scores == (None, None, 1.0)
    assert group.valid == (2,)
    assert group.metrics["reward/unscored"] == pytest.approx(2 / 3)
    assert group.metrics["reward/form"] == 0.0


def test_weight_zero_is_only_logged() -> None:
    shaper = WeightedSum(WeightedSum.Config(), {"right": 1.0, "watch": 0.0}, max_tokens=10)
    group = shape(
        shaper,
        trajectory(right=Value(score=1.0), watch=Missing(reason="x")),
        trajectory(right=Value(score=0.0), watch=Value(score=9.0)),
    )
    assert group.scores == (1.0, 0.0)
    assert group.metrics["reward/watch"] == 9.0


@pytest.mark.parametrize(("length", "penalty"), [(1, 0.0), (16, 0.0), (17, -0.25), (18, -0.5), (20, -1.0), (25, -1.0)])
def test_soft_overlong_penalty(length: int, penalty: float) -> None:
    """arXiv:2503.14476, eq. 13 with L_max = 20, L_cache = 4."""
    shaper = WeightedSum(WeightedSum.Config(overlong_buffer=4, overlong_penalty=2.0), {"right": 1.0}, max_tokens=20)
    group = shape(shaper, trajectory(length, right=Value(score=1.0)))
    assert group.scores == pytest.approx((1.0 + 2.0 * penalty,))
    assert group.metrics["reward/overlong"] == pytest.approx(2.0 * penalty)


def test_spans_need_no_tokenizer_where_nothing_is_learned() -> None:
    """As evaluations and written sets are scored: by the sum alone."""
    shaper = WeightedSum(WeightedSum.Config(), {"tone": 1.0}, max_tokens=10)
    group = shape(shaper, trajectory(tone=Value(score=0.5, spans=((Span(0, 1, -1.0),),))))
    assert group.scores == (0.5,) and group.token_scores == {}


def test_a_reward_that_is_not_finite_is_refused_by_name() -> None:
    shaper = WeightedSum(WeightedSum.Config(), {"right": 1.0}, max_tokens=10)
    with pytest.raises(ValueError, match="reward right of p0#0 is nan"):
        shape(shaper, trajectory(right=Value(score=float("nan"))))


def test_state_is_empty_and_existing_metrics_stay() -> None:
    shaper = WeightedSum(WeightedSum.Config(), {"right": 1.0}, max_tokens=10)
    assert shaper.state_dict() == {}
    shaper.load_state_dict({})
    group = Group(prompt=PROMPT, trajectories=(trajectory(right=Missing(reason="x")),), metrics={"mine": 3.0})
    shaped = logged(shaper, scored(shaper, [group]))[0]
    assert shaped.scores == (None,)
    assert shaped.metrics["mine"] == 3.0
    assert "reward/score" not in shaped.metrics


def test_overlong_buffer_longer_than_the_response_is_refused() -> None:
    with pytest.raises(ValueError, match="exceeds max_tokens=3"):
        WeightedSum(WeightedSum.Config(overlong_buffer=4), {}, max_tokens=3)
