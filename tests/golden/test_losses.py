"""Every loss and its variants against float64 equations, and finite-difference gradients of each."""

from __future__ import annotations

import golden_reference as reference
import numpy as np
import pytest
import torch
from golden_toy import current_logprobs, evaluate, ragged, random_batch

from raylign.batch import Batch
from raylign.contracts import Objective
from raylign.objectives.aggregate import Aggregation
from raylign.objectives.kl import KlEstimator
from raylign.objectives.loss.base import OldLogprob, PolicyLoss
from raylign.objectives.loss.cross_entropy import CrossEntropy
from raylign.objectives.loss.policy import CISPO, GSPO, CispoBounds, ClippedLoss, Reinforce
from raylign.objectives.loss.value import ValueLoss
from raylign.objectives.mismatch import Mismatch, MismatchConfig, mismatch_weights

# Weights travel as float32 streams, so losses agree with float64 equations to about 1e-7.
TOLERANCE = 3e-7
LENGTH = 7
AGGREGATIONS = [("token", 0), ("sequence", 0), ("constant", LENGTH)]


LOSSES = {"clip": ClippedLoss, "gspo": GSPO, "cispo": CISPO, "cispo_absolute": CISPO, "reinforce": Reinforce}


def policy(kind: str = "clip", mode: str = "token", length: int = 0, **fields) -> PolicyLoss:
    loss, bounds = LOSSES[kind], CispoBounds.absolute if kind == "cispo_absolute" else CispoBounds.one_plus
    clips = {"clip_low": 0.1, "clip_high": 1.2 if bounds is CispoBounds.absolute else 0.15}
    return loss(
        loss.Config(
            **{
                "old_logprob": OldLogprob.recompute,
                "aggregation": Aggregation[mode],
                "constant_length": length,
                **({} if loss is Reinforce else clips),
                **({"cispo_bounds": bounds} if loss is CISPO else {}),
                **fields,
            }
        )
    )


@pytest.fixture
def batch() -> Batch:
    return random_batch(seed=5, groups=6, size=4)


def policy_reference(kind: str, mode: str, batch: Batch, lp: torch.Tensor, old: str = "old_logprob", **fields) -> float:
    made = vars(policy(kind, mode, **fields).config)
    rows = reference.policy_tokens(
        kind,
        ragged(batch, lp.detach()),
        ragged(batch, batch[old]),
        ragged(batch, batch["advantage"]),
        made.get("clip_low"),
        made.get("clip_high"),
        made.get("dual_clip"),
    )
    return reference.aggregate(mode, rows, LENGTH)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize(("mode", "length"), AGGREGATIONS)
def test_policy_losses(batch: Batch, kind: str, mode: str, length: int) -> None:
    lp = current_logprobs(batch)
    components, _ = evaluate(policy(kind, mode, length), batch, logprob=lp)
    assert set(components) == {"policy"}
    expected = policy_reference(kind, mode, batch, lp, length=length)
    assert components["policy"].item() == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("kind", ["clip", "gspo"])
def test_dual_clip(batch: Batch, kind: str) -> None:
    lp = current_logprobs(batch, scale=1.5)
    components, _ = evaluate(policy(kind, dual_clip=1.5), batch, logprob=lp)
    expected = policy_reference(kind, "token", batch, lp, dual_clip=1.5)
    assert components["policy"].item() == pytest.approx(expected, abs=TOLERANCE)
    assert expected != pytest.approx(policy_reference(kind, "token", batch, lp), abs=1e-3)


def test_old_logprob_choices(batch: Batch) -> None:
    lp = current_logprobs(batch)
    components, _ = evaluate(policy(old_logprob=OldLogprob.sampler), batch, logprob=lp)
    expected = policy_reference("clip", "token", batch, lp, old="sampler_logprob")
    assert components["policy"].item() == pytest.approx(expected, abs=TOLERANCE)
    _, metrics = evaluate(policy(old_logprob=OldLogprob.detach), batch, logprob=lp)
    assert metrics["ratio"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["clip_low"] == metrics["clip_high"] == 0.0


def test_detach_gradient_is_the_plain_policy_gradient(batch: Batch) -> None:
    """At ratio 1 clip, gspo, cispo (bounds around 1) and reinforce push in the same direction."""
    gradients = []
    for kind in ("clip", "cispo", "reinforce", "gspo"):
        lp = current_logprobs(batch)
        made = policy(kind, "sequence", old_logprob=OldLogprob.detach)
        components, _ = evaluate(made, batch, logprob=lp)
        gradients.append(torch.autograd.grad(components["policy"], lp)[0])
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-12, atol=1e-12)


def test_log_ratio_clamp(batch: Batch) -> None:
    lp = current_logprobs(batch, scale=2.0)
    components, _ = evaluate(policy(log_ratio_clamp=0.5, dual_clip=50.0), batch, logprob=lp)
    clamped = batch["old_logprob"] + np.clip(lp.detach().numpy() - batch["old_logprob"], -0.5, 0.5)
    expected = policy_reference("clip", "token", batch, torch.tensor(clamped), dual_clip=50.0)
    assert components["policy"].item() == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
@pytest.mark.parametrize(("mode", "length"), AGGREGATIONS)
def test_kl_and_entropy_components(batch: Batch, name: str, mode: str, length: int) -> None:
    lp = current_logprobs(batch)
    entropy = torch.rand(batch.tokens, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    made = policy("clip", mode, length, kl_coef=0.07, kl_estimator=KlEstimator[name], entropy_coef=0.01)
    objective = made
    components, metrics = evaluate(objective, batch, logprob=lp, entropy=entropy)
    pairs = zip(ragged(batch, lp.detach()), ragged(batch, batch["ref_logprob"]), strict=True)
    tokens = [[reference.k(name, x, y) for x, y in zip(mine, refs, strict=True)] for mine, refs in pairs]
    assert components["kl"].item() == pytest.approx(0.07 * reference.aggregate(mode, tokens, LENGTH), abs=TOLERANCE)
    expected = -0.01 * reference.aggregate(mode, ragged(batch, entropy), LENGTH)
    assert components["entropy"].item() == pytest.approx(expected, abs=TOLERANCE)
    assert metrics["ref_kl"] == pytest.approx(reference.aggregate("token", tokens), abs=1e-6)
    assert metrics["entropy"] == pytest.approx(reference.aggregate("token", ragged(batch, entropy)), abs=1e-6)
    assert objective.needs == {"old_logprob", "ref_logprob"}
    assert objective.needs_entropy


@pytest.mark.parametrize("mode", [mode.name for mode in Mismatch])
@pytest.mark.parametrize("old", [OldLogprob.recompute, OldLogprob.detach])
def test_mismatch(batch: Batch, mode: str, old: OldLogprob) -> None:
    low, high = 0.6, 1.4
    lp = current_logprobs(batch)
    made = policy(old_logprob=old, mismatch=MismatchConfig(mode=Mismatch[mode], low=low, high=high))
    components, metrics = evaluate(made, batch, logprob=lp)
    learner = ragged(batch, batch["old_logprob"] if old is OldLogprob.recompute else lp.detach())
    weights = reference.mismatch(mode, learner, ragged(batch, batch["sampler_logprob"]), low, high)
    tokens = reference.policy_tokens(
        "clip", ragged(batch, lp.detach()), learner, ragged(batch, batch["advantage"]), 0.1, 0.15, None
    )
    rows = [[w * x for w, x in zip(ws, xs, strict=True)] for ws, xs in zip(weights, tokens, strict=True)]
    assert components["policy"].item() == pytest.approx(reference.aggregate("token", rows), abs=TOLERANCE)
    assert metrics["mismatch_weight"] == pytest.approx(reference.aggregate("token", weights), abs=1e-6)
    if mode in ("mask", "sequence_mask"):
        assert 0 < sum(w == 0 for row in weights for w in row) < sum(map(len, weights))


def test_mismatch_carries_no_gradient(batch: Batch) -> None:
    """With detach, w depends on the current log-prob by value only: d/dlp of -w A exp(lp - sg lp) is -w A."""
    lp = current_logprobs(batch)
    made = policy(old_logprob=OldLogprob.detach, mismatch=MismatchConfig(mode=Mismatch.truncate, high=1.3))
    prepared = made.prepare(batch)
    components, _ = evaluate(made, batch, logprob=lp)
    gradient = torch.autograd.grad(components["policy"], lp)[0].numpy()
    w = np.minimum(np.exp(lp.detach().numpy() - batch["sampler_logprob"]), 1.3)
    np.testing.assert_allclose(gradient, -prepared["policy_weight"] * w * batch["advantage"], atol=1e-12)


def test_metrics(batch: Batch) -> None:
    lp = current_logprobs(batch)
    _, metrics = evaluate(policy(), batch, logprob=lp)
    mask = batch["loss_mask"]
    new, old = lp.detach().numpy()[mask], batch["old_logprob"][mask]
    ratio, a = np.exp(new - old), batch["advantage"][mask]
    gap = np.abs(old - batch["sampler_logprob"][mask])
    expected = {
        "ratio": ratio.mean(),
        "clip_low": np.mean((ratio < 0.9) & (a < 0)),
        "clip_high": np.mean((ratio > 1.15) & (a > 0)),
        "approx_kl_k1": np.mean(old - new),
        "approx_kl_k3": np.mean(ratio - 1 - (new - old)),
        "sampler_gap": gap.mean(),
        "max/sampler_gap": gap.max(),
        "mismatch_weight": 1.0,
        "mismatch_cut": 0.0,
        "max/mismatch_weight": 1.0,
        "ref_kl": np.mean([reference.k("k3", x, y) for x, y in zip(new, batch["ref_logprob"][mask], strict=True)]),
    }
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize(("mode", "length"), AGGREGATIONS)
def test_weight_stream_and_dropped_rows(batch: Batch, mode: str, length: int) -> None:
    """A row of zero weight leaves numerators and counts; a factor acts on the policy loss only."""
    weight = np.ones(batch.tokens, np.float32)
    weight[batch.offsets[3] : batch.offsets[4]] = 0.0
    weight[batch.offsets[5] : batch.offsets[6]] = 2.5
    lp = current_logprobs(batch)
    objective = policy("clip", mode, length, kl_coef=1.0)
    components, metrics = evaluate(objective, batch.with_streams(weight=weight), logprob=lp)
    rows = [row for row in range(len(batch)) if row != 3]
    kept, kept_lp = batch.select(rows), lp.detach()[torch.from_numpy(batch.row_of_token != 3)]
    tokens = reference.policy_tokens(
        "clip",
        ragged(kept, kept_lp),
        ragged(kept, kept["old_logprob"]),
        ragged(kept, kept["advantage"]),
        0.1,
        0.15,
        None,
    )
    tokens[rows.index(5)] = [2.5 * x for x in tokens[rows.index(5)]]
    assert components["policy"].item() == pytest.approx(reference.aggregate(mode, tokens, LENGTH), abs=TOLERANCE)
    pairs = zip(ragged(kept, kept_lp), ragged(kept, kept["ref_logprob"]), strict=True)
    kl = [[reference.k("k3", x, y) for x, y in zip(mine, refs, strict=True)] for mine, refs in pairs]
    assert components["kl"].item() == pytest.approx(reference.aggregate(mode, kl, LENGTH), abs=TOLERANCE)
    assert metrics["mismatch_weight"] == pytest.approx(1.0, abs=1e-6)


def test_nothing_counts_gives_zero(batch: Batch) -> None:
    lp = current_logprobs(batch)
    components, metrics = evaluate(policy(), batch.with_streams(weight=np.zeros(batch.tokens)), logprob=lp)
    assert components["policy"].item() == 0.0
    assert not any(metrics.values())
    components["policy"].backward()
    assert not lp.grad.any()


# ----------------------------------------------------------------------------------------------- value, ce


@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize(("mode", "length"), AGGREGATIONS)
def test_value_loss(batch: Batch, clip: float | None, mode: str, length: int) -> None:
    objective = ValueLoss(
        ValueLoss.Config(clip=clip, coefficient=0.3, aggregation=Aggregation[mode], constant_length=length)
    )
    values = current_values(batch)
    components, metrics = evaluate(objective, batch, values=values)
    triples = zip(*(ragged(batch, x) for x in (values.detach(), batch["value"], batch["return"])), strict=True)
    rows = [[reference.value_token(v, o, r, clip) for v, o, r in zip(*triple, strict=True)] for triple in triples]
    assert components["value"].item() == pytest.approx(0.3 * reference.aggregate(mode, rows, LENGTH), abs=TOLERANCE)
    mask = batch["loss_mask"]
    v, r = values.detach().numpy()[mask], batch["return"][mask]
    assert metrics["explained_variance"] == pytest.approx(1 - np.mean((v - r) ** 2) / r.var(), abs=1e-5)
    assert metrics["value_error"] == pytest.approx(np.mean((v - r) ** 2), abs=1e-6)
    assert (metrics["value_clip"] > 0) == (clip is not None)
    assert objective.needs == ({"return", "value"} if clip else {"return"})


def current_values(batch: Batch) -> torch.Tensor:
    noise = np.random.default_rng(11).standard_normal(batch.tokens)
    return torch.tensor(batch["value"] + 0.5 * noise, requires_grad=True)


def test_value_loss_with_constant_returns(batch: Batch) -> None:
    flat = batch.with_streams(**{"return": np.ones(batch.tokens, np.float32)})
    _, metrics = evaluate(ValueLoss(ValueLoss.Config()), flat, values=current_values(batch))
    assert metrics["explained_variance"] == 0.0


@pytest.mark.parametrize(("mode", "length"), AGGREGATIONS)
def test_cross_entropy(batch: Batch, mode: str, length: int) -> None:
    lp = current_logprobs(batch)
    objective = CrossEntropy(CrossEntropy.Config(aggregation=Aggregation[mode], constant_length=length))
    components, metrics = evaluate(objective, batch, logprob=lp)
    rows = [[-x for x in row] for row in ragged(batch, lp.detach())]
    assert components["ce"].item() == pytest.approx(reference.aggregate(mode, rows, LENGTH), abs=TOLERANCE)
    assert metrics["nll"] == pytest.approx(reference.aggregate("token", rows), abs=1e-6)
    assert objective.needs == frozenset()


# ------------------------------------------------------------------------------------------- gradients


OBJECTIVES: dict[str, Objective] = {
    "clip": policy("clip", dual_clip=1.6),
    "clip_sequence": policy("clip", "sequence"),
    "clip_constant": policy("clip", "constant", LENGTH),
    "clamp": policy("clip", log_ratio_clamp=0.4),
    "reinforce": policy("reinforce"),
    "truncate": policy("clip", mismatch=MismatchConfig(mode=Mismatch.truncate, high=1.2)),
    "k1": policy("clip", kl_coef=0.3, kl_estimator=KlEstimator.k1),
    "k2": policy("clip", kl_coef=0.3, kl_estimator=KlEstimator.k2),
    "k3": policy("clip", kl_coef=0.3, kl_estimator=KlEstimator.k3),
    "k3_ratio": policy("clip", kl_coef=0.3, kl_ratio=True),
    "entropy": policy("clip", entropy_coef=0.3),
    "value": ValueLoss(ValueLoss.Config(clip=0.2)),
    "ce": CrossEntropy(CrossEntropy.Config()),
}


def finite_difference(function, at: torch.Tensor, step: float = 1e-6) -> torch.Tensor:
    gradient = torch.zeros_like(at)
    for i in range(len(at)):
        for sign in (1, -1):
            moved = at.detach().clone()
            moved[i] += sign * step
            gradient[i] += sign * function(moved) / (2 * step)
    return gradient


@pytest.mark.parametrize("name", OBJECTIVES)
def test_finite_difference_gradient(name: str) -> None:
    batch = random_batch(seed=6, groups=3, size=2)
    objective = OBJECTIVES[name]
    start = current_values(batch) if name == "value" else current_logprobs(batch)

    def loss(x: torch.Tensor) -> torch.Tensor:
        flat = {"values": x} if name == "value" else {"logprob": x, "entropy": x.exp() * (1 - x)}
        return sum(evaluate(objective, batch, **flat)[0].values())

    (gradient,) = torch.autograd.grad(loss(start), start)
    numeric = finite_difference(lambda x: loss(x).detach(), start)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient, numeric, rtol=1e-5, atol=1e-8)


def test_finite_difference_gspo_equals_the_sequence_gradient() -> None:
    """The stop-gradient form differentiates like GSPO's own sequence ratio (A is one number per row)."""
    batch = random_batch(seed=6, groups=3, size=2)
    advantage = np.where(batch["loss_mask"], np.random.default_rng(0).standard_normal(6)[batch.row_of_token], 0.0)
    batch = batch.with_streams(advantage=advantage)
    lp = current_logprobs(batch)
    components, _ = evaluate(policy("gspo", "sequence"), batch, logprob=lp)
    (gradient,) = torch.autograd.grad(components["policy"], lp)
    numeric = finite_difference(
        lambda x: torch.tensor(policy_reference("gspo", "sequence", batch, x), dtype=torch.float64), lp
    )
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient, numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["cispo", "cispo_absolute"])
def test_finite_difference_cispo_with_frozen_weight(kind: str) -> None:
    """The clipped ratio is a constant: every token keeps a gradient, clipped ones too."""
    batch = random_batch(seed=6, groups=3, size=2)
    objective, lp = policy(kind), current_logprobs(batch, scale=0.8)
    components, metrics = evaluate(objective, batch, logprob=lp)
    (gradient,) = torch.autograd.grad(components["policy"], lp)
    ratio = np.exp(lp.detach().numpy() - batch["old_logprob"])
    bounds = (0.0, 1.2) if kind == "cispo_absolute" else (0.9, 1.15)
    expected = -np.clip(ratio, *bounds) * batch["advantage"] * objective.prepare(batch)["policy_weight"]
    np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-12)
    assert metrics["clip_high"] > 0


@pytest.mark.parametrize("mode", list(Mismatch))
def test_mismatch_weights_are_constants(mode: Mismatch) -> None:
    learner = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    segment = torch.tensor([0, 0, 1, 1])
    assert not mismatch_weights(MismatchConfig(mode=mode), learner, torch.zeros(4), segment, 2).requires_grad
