"""HyPO's algebra in float64, its released-code variants, its pitfalls, and pairs through any packing and any ranks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from golden_toy import ToyModel, merge, random_batch, view
from numpy.typing import NDArray
from torch import Tensor

from raylign.batch import Batch
from raylign.contracts import TokenView
from raylign.objectives.loss.margin import PairLoss, ReferenceMargin, pair_loss, target_margin
from raylign.objectives.loss.pairs import SequenceLogprob
from raylign.objectives.loss.preference import PreferenceLoss, held_out_metrics
from raylign.packing import pack

Mode = ReferenceMargin


def sigmoid(x: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.asarray(x)))


def random_margins(count: int = 10_000, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Δθ, Δref, β."""
    rng = np.random.default_rng(seed)
    ref = rng.normal(0, 3, count)
    ref[:100] = 0.0
    margin = torch.tensor(rng.normal(0, 3, count), requires_grad=True)
    return margin, torch.tensor(ref), torch.tensor(rng.uniform(0.05, 2, count))


def weight_by_autograd(mode: ReferenceMargin, margin: Tensor, ref: Tensor, beta: Tensor, tau: float = 0.0) -> Tensor:
    """-dL/dΔθ / β per pair, the gradient weight."""
    target = target_margin(mode, ref, 0.0, tau)
    losses = -torch.nn.functional.logsigmoid(beta * (margin - target))
    (gradient,) = torch.autograd.grad(losses.sum(), margin)
    return -gradient / beta


# ------------------------------------------------------------------------------------------------------- algebra


def test_the_weight_of_hypo_is_the_larger_of_dpo_and_reference_free_on_every_pair() -> None:
    margin, ref, beta = random_margins()
    hypo, dpo, free = (weight_by_autograd(mode, margin, ref, beta) for mode in (Mode.hypo, Mode.dpo, Mode.none))
    assert torch.equal(hypo, torch.maximum(dpo, free))
    assert torch.all(hypo[ref >= 0] == dpo[ref >= 0])
    assert torch.all(hypo[ref < 0] == free[ref < 0])
    assert torch.all(free[ref < 0] > dpo[ref < 0])


@pytest.mark.parametrize("mode", list(Mode))
def test_autograd_gives_the_closed_form_weight(mode: ReferenceMargin) -> None:
    margin, ref, beta = random_margins(seed=1)
    tau, r = 0.1, ref.numpy()
    target = {
        Mode.dpo: r,
        Mode.hypo: np.maximum(r, 0),
        Mode.hypo_smooth: tau * np.logaddexp(0, r / tau),
        Mode.none: np.zeros_like(r),
    }[mode]
    expected = sigmoid(-beta.numpy() * (margin.detach().numpy() - target))
    np.testing.assert_allclose(weight_by_autograd(mode, margin, ref, beta, tau).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(("beta", "dpo", "hypo"), [(1.0, 0.11920, 0.73106), (0.1, 0.45017, 0.52498)])
def test_worked_numbers(beta: float, dpo: float, hypo: float) -> None:
    margin, ref = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True), torch.tensor([-3.0]).double()
    weights = [weight_by_autograd(mode, margin, ref, torch.tensor([beta])).item() for mode in (Mode.dpo, Mode.hypo)]
    assert weights == pytest.approx([dpo, hypo], abs=5e-6)


def test_softplus_at_two_points_and_its_bound() -> None:
    smooth = target_margin(Mode.hypo_smooth, torch.tensor([0.0, -1.0]).double(), 0.0, 0.1)
    assert smooth.tolist() == pytest.approx([0.069315, 4.54e-6], rel=1e-4)
    ref = torch.linspace(-50, 50, 20_001, dtype=torch.float64)
    for tau in (1e-3, 0.1, 1.0, 10.0):
        gap = target_margin(Mode.hypo_smooth, ref, 0.5, tau) - target_margin(Mode.hypo, ref, 0.5)
        assert gap.min() >= 0
        assert gap.max() <= tau * math.log(2) * (1 + 1e-12)


def test_gamma_moves_the_floor_and_minus_infinity_removes_it() -> None:
    _, ref, _ = random_margins(seed=2)
    for gamma in (-1.0, 0.7):
        shifted = target_margin(Mode.hypo, ref - gamma, 0.0) + gamma
        torch.testing.assert_close(target_margin(Mode.hypo, ref, gamma), shifted, rtol=0, atol=1e-14)
        soft = target_margin(Mode.hypo_smooth, ref - gamma, 0.0, 0.3) + gamma
        torch.testing.assert_close(target_margin(Mode.hypo_smooth, ref, gamma, 0.3), soft, rtol=0, atol=1e-14)
    for mode in (Mode.hypo, Mode.hypo_smooth):
        assert torch.equal(target_margin(mode, ref, -math.inf, 0.1), ref)


def test_tau_at_or_below_zero_is_the_hard_maximum() -> None:
    _, ref, _ = random_margins(seed=3)
    for tau in (0.0, -1.0):
        assert torch.equal(target_margin(Mode.hypo_smooth, ref, 0.0, tau), target_margin(Mode.hypo, ref, 0.0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_hard_clip_is_dpo_bit_for_bit_on_optimistic_pairs_and_reference_free_on_pessimistic(dtype: torch.dtype) -> None:
    margin, ref, _ = random_margins(seed=4)
    margin, ref = margin.detach().to(dtype), ref.to(dtype)
    for kind in PairLoss:
        for sign, other in ((1, Mode.dpo), (-1, Mode.none)):
            forced = sign * ref.abs()
            hypo, same = (pair_loss(kind, margin, target_margin(mode, forced), 0.1) for mode in (Mode.hypo, other))
            assert torch.equal(hypo, same)


def test_squared_loss_has_its_minimum_at_the_target_plus_half_over_beta() -> None:
    margin = torch.tensor([2.0 + 5.0], dtype=torch.float64, requires_grad=True)
    loss = pair_loss(PairLoss.squared, margin, torch.tensor([2.0]).double(), beta=0.1)
    loss.sum().backward()
    assert loss.item() == 0.0
    assert margin.grad is not None and margin.grad.item() == 0.0


# -------------------------------------------------------------------------------------- the objective on real rows

PAIRS = random_batch(seed=3, groups=12, size=2)


def objective(mode: ReferenceMargin = Mode.hypo, **fields: object) -> PreferenceLoss:
    return PreferenceLoss(PreferenceLoss.Config(reference_margin=mode, **{"beta": 0.5, **fields}))  # type: ignore[arg-type]


def step(
    part: PreferenceLoss, batch: Batch, ranks: int = 1, budget: int = 10**6, share: bool = True
) -> tuple[float, list[Tensor], dict[str, float]]:
    """Loss, gradients and metrics as the learner makes them."""
    prepared, model = part.prepare(batch), ToyModel()
    loss, metrics = 0.0, {}
    for rank in pack(batch, ranks, budget, share, part.whole_groups):
        for micro in rank:
            if not len(micro.token_index):
                continue
            terms = part.terms(view(prepared, micro, **model(prepared, micro)))
            terms.components["preference"].backward()
            loss += terms.components["preference"].item()
            merge(metrics, terms.metrics)
    return loss, [p.grad.clone() for p in model.parameters() if p.grad is not None], metrics


def token_logprobs(batch: Batch) -> NDArray[np.float64]:
    [[micro]] = pack(batch, 1, 10**6, True)
    logprobs = np.zeros(batch.tokens)
    logprobs[micro.token_index] = ToyModel()(batch, micro)["logprob"].detach().numpy()
    return logprobs


def plain(batch: Batch, mode: SequenceLogprob, stream: NDArray[np.float64]) -> NDArray[np.float64]:
    """[P, 2] answer log-probs by a loop over rows, as the definitions say."""
    logprobs = []
    for i in range(len(batch)):
        tokens = stream[batch.offsets[i] : batch.offsets[i + 1]][batch.row(i, "loss_mask")]
        if mode is SequenceLogprob.mean_without_end and len(tokens) > 1:
            tokens = tokens[:-1]
        logprobs.append(tokens.sum() if mode is SequenceLogprob.sum else tokens.mean())
    return np.array(logprobs).reshape(-1, 2)


@pytest.mark.parametrize("logprob", list(SequenceLogprob))
@pytest.mark.parametrize("mode", list(Mode))
def test_loss_and_metrics_against_plain_numpy(mode: ReferenceMargin, logprob: SequenceLogprob) -> None:
    part = objective(mode, logprob=logprob, gamma=0.0, tau=0.2)
    loss, _, metrics = step(part, PAIRS)
    policy = plain(PAIRS, logprob, token_logprobs(PAIRS))
    reference = plain(PAIRS, logprob, np.asarray(PAIRS["ref_logprob"], np.float64))
    margin, ref = policy[:, 0] - policy[:, 1], reference[:, 0] - reference[:, 1]
    target = {
        Mode.dpo: ref,
        Mode.hypo: np.maximum(ref, 0),
        Mode.hypo_smooth: 0.2 * np.logaddexp(0, ref / 0.2),
        Mode.none: 0 * ref,
    }[mode]
    assert loss == pytest.approx(np.mean(np.logaddexp(0, -0.5 * (margin - target))), rel=1e-9)
    low = ref < 0
    assert 0 < low.mean() < 1
    expected = {
        "margin": margin.mean(),
        "margin/pessimistic": margin[low].mean(),
        "margin/optimistic": margin[~low].mean(),
        "ref_margin": ref.mean(),
        "target_margin": target.mean(),
        "share/pessimistic": low.mean(),
        "share/neutral": 0.0,
        "agreement": (margin > 0).mean(),
        "agreement/pessimistic": (margin > 0)[low].mean(),
        "relative_agreement": (margin > ref).mean(),
        "gradient_weight/pessimistic": sigmoid(-0.5 * (margin - target))[low].mean(),
        "logprob/chosen": policy[:, 0].mean(),
        "displacement/rejected": (policy - reference)[:, 1].mean(),
        "length/chosen": np.mean([PAIRS.row(i, "loss_mask").sum() for i in range(0, len(PAIRS), 2)]),
        "rewards/margin": 0.5 * (margin - target).mean(),
        "rewards/accuracy": (margin > target).mean(),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert metrics["rewards/chosen"] - metrics["rewards/rejected"] == pytest.approx(metrics["rewards/margin"], rel=1e-9)
    assert "margin/neutral" not in metrics  # absent is not zero


def test_the_released_code_splits_the_gap_evenly_over_the_two_reference_logprobs() -> None:
    """gap = max(D - Δref, 0); chosen reference + gap / 2, rejected reference - gap / 2 (hypo_trainer.py)."""
    _, _, metrics = step(objective(Mode.hypo), PAIRS)
    policy = plain(PAIRS, SequenceLogprob.sum, token_logprobs(PAIRS))
    reference = plain(PAIRS, SequenceLogprob.sum, np.asarray(PAIRS["ref_logprob"], np.float64))
    gap = np.maximum(np.maximum(reference[:, 0] - reference[:, 1], 0) - (reference[:, 0] - reference[:, 1]), 0)
    assert metrics["rewards/chosen"] == pytest.approx(0.5 * np.mean(policy[:, 0] - reference[:, 0] - gap / 2))
    assert metrics["rewards/rejected"] == pytest.approx(0.5 * np.mean(policy[:, 1] - reference[:, 1] + gap / 2))


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(("ranks", "budget", "share"), [(1, 12, True), (2, 20, True), (3, 1, False), (2, 10**6, False)])
def test_packing_ranks_and_sharing_change_nothing(mode: ReferenceMargin, ranks: int, budget: int, share: bool) -> None:
    part = objective(mode, tau=0.2)
    loss, gradients, metrics = step(part, PAIRS)
    again = step(part, PAIRS, ranks, budget, share)
    assert again[0] == pytest.approx(loss, rel=1e-12)
    assert again[2] == pytest.approx(metrics, rel=1e-9, abs=1e-12)
    for mine, theirs in zip(gradients, again[1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_order_of_pairs_changes_nothing_and_the_first_row_of_a_pair_is_the_chosen_one() -> None:
    part = objective()
    pairs = np.random.default_rng(0).permutation(len(PAIRS) // 2)
    shuffled = PAIRS.select(np.stack([2 * pairs, 2 * pairs + 1], 1).reshape(-1))
    assert step(part, shuffled)[0] == pytest.approx(step(part, PAIRS)[0], rel=1e-12)
    swapped = PAIRS.select(np.stack([2 * pairs + 1, 2 * pairs], 1).reshape(-1))
    assert step(part, swapped)[2]["margin"] == pytest.approx(-step(part, PAIRS)[2]["margin"], rel=1e-12)


def test_held_out_metrics_are_those_of_a_step() -> None:
    part = objective(Mode.hypo_smooth)
    loss, _, metrics = step(part, PAIRS)
    held_out = held_out_metrics(part, PAIRS, token_logprobs(PAIRS))  # type: ignore[arg-type]
    assert held_out["loss"] == pytest.approx(loss, rel=1e-9)
    shared = metrics.keys() & held_out.keys()
    assert {"agreement/pessimistic", "margin/optimistic", "relative_agreement"} <= shared
    assert {name: held_out[name] for name in shared} == pytest.approx(
        {name: metrics[name] for name in shared}, abs=1e-9
    )


# ----------------------------------------------------------------------------------------------------------- pitfalls


def test_the_reference_and_the_target_carry_no_gradient() -> None:
    part = objective(Mode.hypo_smooth)
    prepared = part.prepare(PAIRS)
    [[micro]] = pack(PAIRS, 1, 10**6, True, True)
    tokens = view(prepared, micro, **ToyModel()(prepared, micro))
    reference = tokens["ref_answer"].clone().requires_grad_()
    streams = {**tokens.streams, "ref_answer": reference}
    leaf = tokens.logprob.detach().clone().requires_grad_()  # type: ignore[union-attr]
    moved = TokenView(streams=streams, segment=tokens.segment, rows=tokens.rows, logprob=leaf)
    part.terms(moved).components["preference"].backward()
    assert reference.grad is None
    assert leaf.grad is not None and bool(leaf.grad.abs().sum() > 0)


def test_agreement_is_the_raw_margin_not_the_logged_accuracy() -> None:
    """A policy that is right by less than the reference agrees (Δθ > 0) but is not accurate (Δθ > D)."""
    policy = np.where(PAIRS["loss_mask"], 0.5 * PAIRS["ref_logprob"], 0.0)
    metrics = held_out_metrics(objective(Mode.dpo), PAIRS, policy.astype(np.float64))  # type: ignore[arg-type]
    assert metrics["agreement/optimistic"] == 1.0
    assert metrics["agreement/pessimistic"] == 0.0
    assert metrics["rewards/accuracy"] == metrics["relative_agreement"] == metrics["share/pessimistic"]


def test_the_partition_is_the_same_for_every_method() -> None:
    names = ("share/optimistic", "share/neutral", "share/pessimistic")
    partitions = [{name: step(objective(mode), PAIRS)[2][name] for name in names} for mode in Mode]
    assert all(shares == partitions[0] for shares in partitions)


def test_sum_and_mean_change_the_unit_of_every_margin() -> None:
    """With sums of long answers τ = .1 is the hard maximum; with means it is not."""
    base = np.asarray(PAIRS["ref_logprob"])
    long = PAIRS.with_streams(ref_logprob=base * 100)
    for mode, close in ((SequenceLogprob.sum, True), (SequenceLogprob.mean, False)):
        batch = long if close else PAIRS
        soft, hard = (step(objective(kind, tau=0.1, logprob=mode), batch)[0] for kind in (Mode.hypo_smooth, Mode.hypo))
        assert (soft == pytest.approx(hard, rel=1e-6)) is close


def test_reference_free_without_classes_needs_no_reference() -> None:
    part = objective(Mode.none, classify=False, logprob=SequenceLogprob.mean, gamma=0.3)
    assert part.needs == frozenset()
    bare = {name: stream for name, stream in PAIRS.streams.items() if name != "ref_logprob"}
    batch = Batch(offsets=PAIRS.offsets, prompt_lengths=PAIRS.prompt_lengths, groups=PAIRS.groups, streams=bare)
    loss, _, metrics = step(part, batch)
    policy = plain(batch, SequenceLogprob.mean, token_logprobs(batch))
    simpo = np.logaddexp(0, -(0.5 * (policy[:, 0] - policy[:, 1]) - 0.5 * 0.3)).mean()  # β Δ - γ_simpo, γ_simpo = β γ
    assert loss == pytest.approx(simpo, rel=1e-9)
    assert "share/pessimistic" not in metrics
    with pytest.raises(ValueError, match="ref_logprob"):
        objective(Mode.none).prepare(batch)


def test_a_group_that_is_no_pair_is_refused() -> None:
    part = objective()
    with pytest.raises(ValueError, match="has 3 rows"):
        part.prepare(random_batch(groups=2, size=3))
    empty = PAIRS.with_streams(loss_mask=np.where(PAIRS.row_of_token == 4, False, PAIRS["loss_mask"]))
    with pytest.raises(ValueError, match="row 4 has no answer token"):
        part.prepare(empty)


def test_a_pair_that_was_split_is_noticed() -> None:
    part = objective()
    prepared = part.prepare(PAIRS)
    with pytest.raises(ValueError, match="split over micro-batches"):
        for micro in pack(PAIRS, 1, 1, True)[0]:
            if len(micro.token_index):
                part.terms(view(prepared, micro, **ToyModel()(prepared, micro)))


@pytest.mark.parametrize(
    "fields",
    [
        {"beta": 0.0},
        {"reference_margin": Mode.dpo, "gamma": 1.0},
        {"gamma": math.nan},
        {"gamma": math.inf},
        {"reference_margin": Mode.none, "gamma": -math.inf},
    ],
)
def test_choices_that_make_no_sense_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        PreferenceLoss.Config(**fields)  # type: ignore[arg-type]
