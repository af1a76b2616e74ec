"""The equations of ARLCP in plain float64 against the recipe's, and every pitfall that its paper or code holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from golden_reference import rloo
from hypothesis import given, settings
from hypothesis import strategies as st

from raylign.batch import Batch
from raylign.objectives.advantage.group import RLOO
from raylign.objectives.kl import LogprobSource
from raylign.recipes.arlcp.shaper import (
    KEYWORDS,
    BudgetSplit,
    KeywordCounter,
    Penalised,
    ReflectionPenalty,
    Shaped,
    shape_group,
    sigmoid,
)
from raylign.records import Row


def shaped(
    reflections: list[float],
    lengths: list[float],
    correct: list[int],
    pooled: list[int] | None = None,
    **choices: object,
) -> Shaped:
    right = np.array(correct, bool)
    pool = right if pooled is None else np.array(pooled, bool)
    config = ReflectionPenalty.Config(**choices)  # type: ignore[arg-type]
    return shape_group(np.array(reflections, float), np.array(lengths, float), right, pool, config)


def by_hand(reflections: list[float], lengths: list[float], correct: list[int]) -> list[float]:
    """The paper's reward, one answer at a time."""

    def f(values: list[float], x: float) -> float:
        pool = [value for value, right in zip(values, correct, strict=True) if right]
        mean = sum(pool) / len(pool)
        std = math.sqrt(sum((v - mean) ** 2 for v in pool) / (len(pool) - 1)) if len(pool) > 1 else 1.0
        z = (x - mean) / (std + 1e-6)
        return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))

    rewards = []
    for count, length, right in zip(reflections, lengths, correct, strict=True):
        alpha = 0.05 if count <= 40 else 0.10 if count <= 80 else 0.15
        rewards.append(1 - alpha * f(reflections, count) - (0.2 - alpha) * f(lengths, length) if right else 0.0)
    return rewards


HAND = ([10.0, 30.0, 50.0, 90.0], [1000.0, 2500.0, 5000.0, 3000.0], [1, 0, 1, 1])


def test_hand_checkable_group() -> None:
    result = shaped(*HAND)
    assert result.means == (50, 3000) and result.stds == (40, 2000)
    np.testing.assert_allclose(result.reward, [0.94621, 0, 0.87689, 0.86534], atol=1e-5)
    np.testing.assert_allclose(rloo(list(result.reward)), [0.36547, -0.89615, 0.27304, 0.25764], atol=1e-5)


groups = st.integers(2, 16).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 120), min_size=n, max_size=n),
        st.lists(st.integers(1, 16384), min_size=n, max_size=n),
        st.lists(st.integers(0, 1), min_size=n, max_size=n),
    )
)


@given(groups)
@settings(max_examples=200, deadline=None)
def test_any_group(group: tuple[list[int], list[int], list[int]]) -> None:
    reflections, lengths, correct = group
    result = shaped(*group)
    right = np.array(correct, bool)
    if right.any():
        np.testing.assert_allclose(result.reward, by_hand(*group), rtol=1e-12, atol=1e-12)
    assert np.isfinite(result.f_reflection).all() and np.isfinite(result.f_length).all()
    assert (result.reward[~right] == 0).all()
    assert ((result.reward[right] > 0.8) & (result.reward[right] < 1.0)).all()
    wrong = np.flatnonzero(~right)
    if len(wrong) >= 2:
        lengths[wrong[0]], lengths[wrong[1]] = lengths[wrong[1]], lengths[wrong[0]]
        np.testing.assert_array_equal(shaped(reflections, lengths, correct).reward, result.reward)


def test_equal_counts_give_exactly_one_half() -> None:
    result = shaped([7, 7, 7], [100, 200, 300], [1, 1, 1])
    assert (result.f_reflection == 0.5).all()


@pytest.mark.parametrize("length", [3.0, 16000.0])
def test_the_only_right_answer_scores_nine_tenths_whatever_its_length(length: float) -> None:
    result = shaped([100, 5], [length, 40], [1, 0])
    assert result.reward.tolist() == [0.9, 0.0]
    assert result.stds == (1.0, 1.0)


def test_no_right_answer_scores_zero_and_stays_finite() -> None:
    result = shaped([10, 500], [100, 16384], [0, 0])
    assert result.reward.tolist() == [0.0, 0.0] and result.means == (0, 0) and result.stds == (1, 1)
    assert np.isfinite(result.f_length).all()


def test_no_overflow_far_from_a_pool_without_deviation() -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        result = shaped([5, 5, 0, 4000], [100, 100, 1, 16384], [1, 1, 0, 0])
        assert result.f_length[2] == 0.0 and result.f_length[3] == 1.0
        assert sigmoid(np.array([-1e300, 1e300])).tolist() == [0.0, 1.0]


def test_crossing_a_tier_shifts_the_split_and_may_raise_the_reward() -> None:
    """One more reflection moves .05 of the budget from length to reflections: r jumps by .05 (f_L - f_R)."""
    base = ([40.0, 300.0, 200.0], [9000.0, 100.0, 200.0], [1, 1, 1])
    low, high = shaped(*base), shaped(*base, n_1=39)  # the same answer on either side of the border
    assert low.tier[0] == 0 and high.tier[0] == 1
    jump = high.reward[0] - low.reward[0]
    assert jump == pytest.approx(0.05 * (low.f_length[0] - low.f_reflection[0]), abs=1e-12) and jump > 0
    tiers = shaped([40, 41, 80, 81], [1, 1, 1, 1], [1, 1, 1, 1])
    assert tiers.tier.tolist() == [0, 1, 1, 2]
    np.testing.assert_allclose(tiers.alpha_reflection, [0.05, 0.10, 0.10, 0.15])
    np.testing.assert_allclose(tiers.alpha_reflection + tiers.alpha_length, 0.2)


def test_ablations() -> None:
    full = shaped(*HAND)
    length = shaped(*HAND, split=BudgetSplit.length)  # TLMRE: C (1 - alpha f_L)
    np.testing.assert_allclose(
        length.reward, [1 - 0.2 * f if c else 0 for f, c in zip(full.f_length, HAND[2], strict=True)]
    )
    only = shaped(*HAND, split=BudgetSplit.reflection)
    np.testing.assert_allclose(
        only.reward, [1 - 0.2 * f if c else 0 for f, c in zip(full.f_reflection, HAND[2], strict=True)]
    )
    fixed = shaped(*HAND, split=BudgetSplit.fixed)
    mean = (full.f_length + full.f_reflection) / 2
    np.testing.assert_allclose(fixed.reward, [1 - 0.2 * f if c else 0 for f, c in zip(mean, HAND[2], strict=True)])
    assert shaped(*HAND, alpha=0.0).reward.tolist() == [1, 0, 1, 1]
    everyone = shaped(*HAND, penalised=Penalised.all)
    assert everyone.reward[1] < 0, "without the gate a wrong answer pays too"


def test_the_released_pool_admits_right_answers_in_a_bad_format() -> None:
    gated, released = shaped(*HAND), shaped(*HAND, pooled=[1, 1, 1, 1])
    assert released.means == (45, 2875) and released.reward[1] == 0
    assert not np.allclose(gated.reward, released.reward)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"n_1": 80}, "n_1 < n_2"),
        ({"lambdas": [0.1, 0.2]}, "one per tier"),
        ({"lambdas": [0.1, 0.2, 0.3]}, "between 0 and alpha"),
        ({"alpha": 1.01}, "outrank"),
        ({"split": BudgetSplit.fixed, "fixed_reflection": 0.3}, "between 0 and alpha"),
    ],
)
def test_impossible_settings(choices: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReflectionPenalty.Config(**choices)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Wait, is it 4?", 1),
        ("WAIT wait Wait", 3),
        ("Alternatively, an alternative exists", 2),
        ("alternatives", 0),
        ("hold on. Hold on!", 2),
        ("hold\non", 0),
        ("Another thought: think again", 2),
        ("double-check", 1),
        ("Let me double-check, then check.", 2),
        ("checking verified checks", 0),
        ("button, rebut, but", 1),
        ("However,however", 2),
        ("hmm, hmmm, Hmm...", 2),
        ("oh! Ohm ohh oh", 2),
        ("re-check", 1),
        ("wait_for but1", 0),
        ("thought</think>But the answer: check", 2),
        ("", 0),
    ],
)
def test_keyword_counter(text: str, count: int) -> None:
    assert KeywordCounter(KEYWORDS)(text) == count


def test_rloo_with_the_kl_charge_inside_the_reward() -> None:
    """S_i = r_i - 0.001 sum_t (old - ref), A_i = S_i - mean of the others, the same on every response token."""
    rng = np.random.default_rng(0)
    samples, returns = [], []
    rewards = [0.94621, 0.0, 0.87689, 0.86534]
    for reward, length in zip(rewards, (3, 5, 2, 4), strict=True):
        old, ref = rng.normal(-1, 1, length), rng.normal(-1, 1, length)
        returns.append(reward - 0.001 * sum(float(o) - float(r) for o, r in zip(old, ref, strict=True)))
        pad = np.zeros(2)
        samples.append(
            Row(
                group=0,
                prompt_length=2,
                token_ids=np.arange(2 + length, dtype=np.int32),
                loss_mask=np.array([False] * 2 + [True] * length),
                sampler_logprob=np.zeros(2 + length, np.float32),
                policy_version=np.zeros(2 + length, np.int32),
                advantage=np.zeros(2 + length, np.float32),
                weight=np.ones(2 + length, np.float32),
                extras={"old_logprob": np.concatenate([pad, old]), "ref_logprob": np.concatenate([pad, ref])},
            )
        )
    method = RLOO(RLOO.Config(kl_coef=0.001, kl_logprob=LogprobSource.recompute))
    assert method.needs == {"old_logprob", "ref_logprob"}
    batch, _ = method.assign(Batch.from_rows(samples), np.array(rewards, np.float32))
    for row, advantage in enumerate(rloo(returns)):
        mask = batch.row(row, "loss_mask")
        np.testing.assert_allclose(batch.row(row, "advantage")[mask], advantage, atol=1e-6)
        assert (batch.row(row, "advantage")[~mask] == 0).all()
