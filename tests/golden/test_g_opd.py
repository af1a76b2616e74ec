"""The equations of G-OPD in plain float64 against the recipe's, and every pitfall that its paper or code holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.experiments import _g_opd_closed_form as closed
from golden_toy import evaluate

from raylign.batch import Batch
from raylign.config.build import build
from raylign.contracts import Part
from raylign.objectives.loss.base import PolicyLoss
from raylign.recipes.g_opd import TeacherAdvantage, token_advantage
from raylign.records import Row

LAMBDAS = (0.0, 0.25, 0.5, 1.0, 1.25, 1.5, 2.0)
NO_SCORES = np.full(3, np.nan, np.float32)


def batch_of(lengths: tuple[int, ...] = (4, 2, 5), seed: int = 0) -> Batch:
    """Rows of one sample each (group size 1), prompts of 3 tokens whose streams hold rubbish."""
    rng = np.random.default_rng(seed)
    samples = []
    for group, length in enumerate(lengths):
        size = 3 + length
        extras = {name: rng.normal(-1, 0.7, size) for name in ("old_logprob", "teacher_logprob", "ref_logprob")}
        samples.append(
            Row(
                group=group,
                prompt_length=3,
                token_ids=rng.integers(0, 9, size).astype(np.int32),
                loss_mask=np.array([False] * 3 + [True] * length),
                sampler_logprob=np.concatenate([np.zeros(3), extras["old_logprob"][3:]]).astype(np.float32),
                policy_version=np.zeros(size, np.int32),
                advantage=np.zeros(size, np.float32),
                weight=np.ones(size, np.float32),
                extras={name: stream.astype(np.float32) for name, stream in extras.items()},
            )
        )
    return Batch.from_rows(samples)


def method(**choices: Any) -> TeacherAdvantage:
    made: TeacherAdvantage = build(Part, {"_target_": "raylign.recipes.g_opd.TeacherAdvantage", **choices}, "advantage")
    return made


@pytest.mark.parametrize("weight", LAMBDAS)
def test_token_advantage_as_printed_and_as_regrouped(weight: float) -> None:
    batch = batch_of()
    assigned, _ = method(reward_weight=weight).assign(batch, NO_SCORES)
    for row in range(len(batch)):
        for token, counts in enumerate(batch.row(row, "loss_mask")):
            old, teacher, ref = (float(batch.row(row, f"{name}_logprob")[token]) for name in ("old", "teacher", "ref"))
            printed = -((old - ref) - weight * (teacher - ref))
            regrouped = -((old - teacher) + (weight - 1) * (ref - teacher))
            assert printed == pytest.approx(regrouped, abs=1e-9)
            expected = printed if counts else 0.0  # the prompt and anything else off the mask is never scored
            assert float(assigned.row(row, "advantage")[token]) == pytest.approx(expected, abs=1e-6)


def test_last_token_is_scored_and_nothing_is_normalised() -> None:
    batch = batch_of()
    assigned, metrics = method(reward_weight=1.25).assign(batch, NO_SCORES)
    ends = batch.offsets[1:] - 1
    assert (assigned["advantage"][ends] != 0).all(), "EOS is a sampled token like any other"
    mean = float(np.mean(assigned["advantage"][batch["loss_mask"]]))
    assert abs(mean) > 1e-3 and metrics["distill/advantage"] == pytest.approx(mean, abs=1e-6)


def test_plain_distillation_needs_no_reference_and_ignores_one() -> None:
    plain = method(reward_weight=1.0)
    assert plain.needs == {"teacher_logprob", "old_logprob"}
    assert method(reward_weight=1.25).needs == {"teacher_logprob", "old_logprob", "ref_logprob"}
    assert method(reward_weight=1.0, old="sampler").needs == {"teacher_logprob"}
    batch = batch_of()
    other = batch.with_streams(ref_logprob=batch["ref_logprob"] - 3)
    same = [plain.assign(one, NO_SCORES)[0]["advantage"].tobytes() for one in (batch, other)]
    assert same[0] == same[1]
    differ = [method(reward_weight=1.25).assign(one, NO_SCORES)[0]["advantage"] for one in (batch, other)]
    assert not np.allclose(*differ)
    expected = np.where(batch["loss_mask"], batch["teacher_logprob"] - batch["old_logprob"], 0)
    np.testing.assert_allclose(plain.assign(batch, NO_SCORES)[0]["advantage"], expected, atol=1e-6)


def test_weight_zero_leaves_the_student_at_the_reference() -> None:
    batch = batch_of()
    at_reference = batch.with_streams(ref_logprob=batch["old_logprob"])
    assert not method(reward_weight=0.0).assign(at_reference, NO_SCORES)[0]["advantage"].any()


def test_weight_one_and_a_half_is_linear_in_lambda() -> None:
    old, teacher, ref = np.array([-1.0]), np.array([-0.5]), np.array([-2.0])
    values = [float(token_advantage(old, teacher, ref, weight)[0]) for weight in (0.0, 0.5, 1.0, 1.5)]
    np.testing.assert_allclose(np.diff(values), 0.5 * (teacher - ref)[0])


def test_clamp_is_off_by_default_and_bounds_underflow() -> None:
    batch = batch_of()
    teacher = batch["teacher_logprob"].copy()
    teacher[4] = -80.0
    batch = batch.with_streams(teacher_logprob=teacher)
    loose, metrics = method(reward_weight=1.0).assign(batch, NO_SCORES)
    tight, _ = method(reward_weight=1.0, clamp=5.0).assign(batch, NO_SCORES)
    assert loose["advantage"].min() < -70 and tight["advantage"].min() == -5
    assert metrics["max/distill/log_ratio"] > 70
    teacher = teacher.copy()
    teacher[4] = -np.inf
    with pytest.raises(ValueError, match="teacher log-prob"):
        method().assign(batch.with_streams(teacher_logprob=teacher), NO_SCORES)


def test_discount_one_is_the_sum_of_what_follows() -> None:
    batch = batch_of()
    near, _ = method(reward_weight=1.25).assign(batch, NO_SCORES)
    far, _ = method(reward_weight=1.25, discount=1.0).assign(batch, NO_SCORES)
    half, _ = method(reward_weight=1.25, discount=0.5).assign(batch, NO_SCORES)
    for row in range(len(batch)):
        mask = batch.row(row, "loss_mask")
        tokens = near.row(row, "advantage")[mask].astype(np.float64)
        np.testing.assert_allclose(far.row(row, "advantage")[mask], tokens[::-1].cumsum()[::-1], atol=1e-5)
        weighted = [sum(0.5 ** (j - i) * tokens[j] for j in range(i, len(tokens))) for i in range(len(tokens))]
        np.testing.assert_allclose(half.row(row, "advantage")[mask], weighted, atol=1e-5)


def test_loss_is_token_mean_with_truncated_importance_weights() -> None:
    """- sum_t min(exp(old - rollout), 5) A_t / T, and its gradient pushes log pi up where A_t is positive."""
    batch, _ = method(reward_weight=1.25).assign(batch_of(), NO_SCORES)
    mask = np.asarray(batch["loss_mask"], bool)
    shifted = np.where(mask, batch["sampler_logprob"] + np.linspace(-3, 3, batch.tokens), 0).astype(np.float32)
    batch = batch.with_streams(sampler_logprob=shifted)
    node = {"dual_clip": 3.0, "mismatch": {"mode": "truncate", "high": 5.0}}
    loss: PolicyLoss = build(Part, {"_target_": "raylign.objectives.loss.policy.ClippedLoss", **node}, "objective")
    logprob = torch.tensor(batch["old_logprob"], dtype=torch.float64, requires_grad=True)
    components, metrics = evaluate(loss, batch, logprob=logprob)
    policy = components["policy"]
    policy.backward()
    weight = np.minimum(np.exp(np.asarray(batch["old_logprob"], np.float64) - shifted)[mask], 5.0)
    advantage = np.asarray(batch["advantage"], np.float64)[mask]
    assert weight.max() == 5.0 == float(metrics["max/mismatch_weight"])
    assert float(metrics["mismatch_weight"]) == pytest.approx(float(weight.mean()), rel=1e-5)
    assert float(metrics["mismatch_cut"]) == pytest.approx(float((weight == 5.0).mean()))
    assert float(policy.detach()) == pytest.approx(-float(np.mean(weight * advantage)), rel=1e-5)
    assert logprob.grad is not None
    np.testing.assert_allclose(logprob.grad.numpy()[mask], -weight * advantage / mask.sum(), rtol=1e-4)


@pytest.mark.parametrize("weight", [0.0, 1.0, 1.5])
def test_fixed_point_is_the_tilted_distribution_of_each_prefix(weight: float) -> None:
    """Discount 0 converges to pi*^lambda pi_ref^(1 - lambda) normalised per state, and to no other lambda's."""
    environment = closed.Environment.draw(states=16)
    student = closed.train(environment, weight, environment.base, steps=1200)
    assert closed.divergence(student, environment.target(weight, environment.base)) < 1e-3
    assert closed.divergence(student, environment.target(weight + 0.25, environment.base)) > 3e-3


@pytest.mark.parametrize("choices", [{"reward_weight": -1}, {"clamp": 0}, {"discount": 2}, {"lamda": 1}])
def test_impossible_settings(choices: dict[str, float]) -> None:
    with pytest.raises(Exception, match=r"advantage"):
        method(**choices)
