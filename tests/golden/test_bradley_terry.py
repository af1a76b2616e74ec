"""Bradley-Terry with ties in float64, its printed sign, its margins, and pairs through any packing and any ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_toy import ToyModel, merge, view
from numpy.typing import NDArray

from raylign.batch import Batch
from raylign.data.pairs import Pair
from raylign.data.scored import scored_pairs, scores_of
from raylign.objectives.loss.bradley_terry import BradleyTerry, TieSign, held_out_metrics
from raylign.packing import pack
from raylign.records import Prompt

Float64s = NDArray[np.float64]


def log_sigmoid(x: Float64s) -> Float64s:
    return -np.logaddexp(0, -x)


def random_pairs(count: int = 12, ties: int = 5, seed: int = 3) -> Batch:
    rng = np.random.default_rng(seed)

    def ids(least: int, most: int) -> NDArray[np.int32]:
        return rng.integers(0, 11, rng.integers(least, most)).astype(np.int32)

    pairs = [
        Pair(
            prompt=Prompt(id=str(i), messages=(), token_ids=ids(1, 6), domain="ab"[i % 2]),
            chosen=ids(1, 8),
            rejected=ids(1, 8),
            tie=i % 3 == 0 and i // 3 < ties,
        )
        for i in range(count)
    ]
    return Batch.from_rows(scored_pairs(pairs))


PAIRS = random_pairs()
TIES = np.array(PAIRS.arrays["tie"][0::2], bool)


def objective(**fields: object) -> BradleyTerry:
    return BradleyTerry(BradleyTerry.Config(**fields))  # type: ignore[arg-type]


def step(
    part: BradleyTerry, batch: Batch = PAIRS, ranks: int = 1, budget: int = 10**6, share: bool = True
) -> tuple[dict[str, float], list[torch.Tensor], dict[str, float]]:
    """Components, gradients and metrics as the learner makes them."""
    prepared, model = part.prepare(batch), ToyModel()
    losses: dict[str, float] = {}
    metrics: dict[str, float] = {}
    for rank in pack(batch, ranks, budget, share, part.whole_groups):
        for micro in rank:
            if len(micro.token_index):
                terms = part.terms(view(prepared, micro, **model(prepared, micro)))
                sum(terms.components.values()).backward()  # type: ignore[union-attr]
                merge(losses, terms.components)
                merge(metrics, terms.metrics)
    return losses, [p.grad.clone() for p in model.parameters() if p.grad is not None], metrics


def scores(batch: Batch = PAIRS) -> Float64s:
    """[P, 2] r of the rows, each alone."""
    model, found = ToyModel(), []
    for row in range(len(batch)):
        (alone,) = pack(batch.select([row]), 1, 10**6, False)[0]
        found.append(float(model(batch.select([row]), alone)["values"][0]))
    return np.array(found).reshape(-1, 2)


@pytest.mark.parametrize(
    ("weight", "m", "m_same", "sign"),
    [
        (0.5, 0.0, 0.0, "corrected"),
        (2.0, 0.3, 0.7, "corrected"),
        (0.5, 0.3, 0.0, "printed"),
        (0.0, 0.0, 0.0, "corrected"),
    ],
)
def test_loss_and_metrics_against_plain_numpy(weight: float, m: float, m_same: float, sign: str) -> None:
    part = objective(tie_weight=weight, pair_margin=m, tie_margin=m_same, tie_sign=TieSign(sign))
    losses, _, metrics = step(part)
    r = scores()
    gap = r[:, 0] - r[:, 1]
    assert 0 < TIES.sum() < len(TIES)
    l_diff = -log_sigmoid(gap[~TIES] - m).mean()
    inner = np.abs(gap[TIES]) if sign == "printed" else m_same - np.abs(gap[TIES])
    l_same = -log_sigmoid(inner).mean()
    assert losses == pytest.approx({"difference": l_diff, "tie": weight * l_same}, rel=1e-9)
    expected = {
        "accuracy": (gap[~TIES] > 0).mean(),
        "gap": gap[~TIES].mean(),
        "absolute_gap": np.abs(gap[~TIES]).mean(),
        "score/chosen": r[~TIES, 0].mean(),
        "score/rejected": r[~TIES, 1].mean(),
        "tie_gap": np.abs(gap[TIES]).mean(),
        "share/ties": TIES.mean(),
    }
    assert metrics == pytest.approx(expected, rel=1e-9)


def test_worked_numbers() -> None:
    gap = torch.tensor([2.0, -1.0, 2.0, -1.0, 0.0], dtype=torch.float64)
    tie = torch.tensor([False, False, True, True, True])
    printed = objective(tie_sign=TieSign.printed)
    losses = [0.126928, 1.313262, 2.126928, 1.313262, 0.693147]
    assert objective().loss(gap, tie).tolist() == pytest.approx(losses, abs=5e-7)
    assert printed.loss(gap, tie).tolist() == pytest.approx([*losses[:2], 0.126928, 0.313262, 0.693147], abs=5e-7)


def test_the_printed_sign_drives_a_tie_apart_and_the_corrected_one_together() -> None:
    for sign, apart in ((TieSign.corrected, False), (TieSign.printed, True)):
        for start in (0.5, -0.5):
            gap = torch.tensor([start], dtype=torch.float64, requires_grad=True)
            objective(tie_sign=sign).loss(gap, torch.tensor([True])).sum().backward()
            assert gap.grad is not None and (float(gap.grad) * start < 0) is apart


def test_a_tie_of_equal_scores_is_at_its_minimum_and_the_margin_is_one() -> None:
    gap = torch.linspace(-3, 3, 601, dtype=torch.float64)
    tie = torch.ones(601, dtype=torch.bool)
    for margin in (0.0, 1.0):
        loss = objective(tie_margin=margin).loss(gap, tie)
        assert abs(float(gap[loss.argmin()])) < 1e-9
    pairs = objective(pair_margin=1.5).loss(gap, ~tie)
    torch.testing.assert_close(pairs, torch.nn.functional.softplus(1.5 - gap))


@pytest.mark.parametrize(("ranks", "budget", "share"), [(1, 12, True), (2, 20, True), (3, 1, False), (2, 10**6, False)])
def test_packing_ranks_and_sharing_change_nothing(ranks: int, budget: int, share: bool) -> None:
    losses, gradients, metrics = step(objective())
    again = step(objective(), PAIRS, ranks, budget, share)
    assert again[0] == pytest.approx(losses, rel=1e-12)
    assert again[2] == pytest.approx(metrics, rel=1e-9, abs=1e-12)
    for mine, theirs in zip(gradients, again[1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_order_changes_nothing_and_the_order_within_a_tie_means_nothing() -> None:
    pairs = np.random.default_rng(0).permutation(len(PAIRS) // 2)
    first, second = 2 * pairs, 2 * pairs + 1
    turned = np.where(TIES[pairs], second, first), np.where(TIES[pairs], first, second)
    shuffled = PAIRS.select(np.stack(turned, 1).reshape(-1))
    assert step(objective(), shuffled)[0] == pytest.approx(step(objective())[0], rel=1e-12)


@pytest.mark.parametrize("ties", [0, 12])
def test_a_batch_of_one_kind_has_the_figures_of_that_kind_only(ties: int) -> None:
    batch = PAIRS.select(np.flatnonzero(PAIRS.arrays["tie"] == bool(ties)))
    losses, gradients, metrics = step(objective(), batch)
    assert set(losses) == {"tie" if ties else "difference"}
    assert ("accuracy" in metrics, "tie_gap" in metrics) == (not ties, bool(ties))
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    held_out = held_out_metrics(objective(), batch, scores(batch).reshape(-1))
    assert "tie_ratio" not in held_out and held_out["loss"] == pytest.approx(sum(losses.values()))


def test_held_out_metrics_are_those_of_a_step_and_come_by_domain() -> None:
    losses, _, metrics = step(objective())
    r = scores()
    held_out = held_out_metrics(objective(), PAIRS, r.reshape(-1))
    assert held_out["loss"] == pytest.approx(sum(losses.values()), rel=1e-9)
    assert {name: held_out[name] for name in metrics} == pytest.approx(metrics, rel=1e-9)
    gap, of_a = r[:, 0] - r[:, 1], np.arange(len(r)) % 2 == 0
    assert held_out["accuracy/a"] == pytest.approx((gap[~TIES & of_a] > 0).mean())
    assert held_out["tie_gap/b"] == pytest.approx(np.abs(gap[TIES & ~of_a]).mean())
    assert held_out["tie_ratio"] == pytest.approx(np.abs(gap[TIES]).mean() / np.abs(gap[~TIES]).mean())


def test_what_is_no_pair_of_scores_is_refused() -> None:
    part = objective()
    with pytest.raises(ValueError, match="has 1 rows"):
        part.prepare(PAIRS.select(range(3)))
    several = PAIRS.with_streams(loss_mask=PAIRS["loss_mask"] | (PAIRS.row_of_token == 4))
    with pytest.raises(ValueError, match=r"row 4 has \d+ scores, not one"):
        part.prepare(several)
    half = Batch(
        offsets=PAIRS.offsets,
        prompt_lengths=PAIRS.prompt_lengths,
        groups=PAIRS.groups,
        streams=PAIRS.streams,
        arrays={"tie": np.arange(len(PAIRS)) == 1},
    )
    with pytest.raises(ValueError, match="a tie by one of its rows"):
        part.prepare(half)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tie_weight": -1.0}, "tie_weight=-1"),
        ({"pair_margin": -0.1}, "pair_margin=-0.1"),
        ({"tie_sign": TieSign.printed, "tie_margin": 1.0}, "does nothing with tie_sign=printed"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BradleyTerry.Config(**fields)  # type: ignore[arg-type]


def test_a_score_is_that_of_the_row_s_one_token() -> None:
    stream = np.where(PAIRS["loss_mask"], np.arange(PAIRS.tokens), 99.0).astype(np.float32)
    assert scores_of(PAIRS, stream).tolist() == [float(end - 1) for end in PAIRS.offsets[1:]]
