"""One batch, one loss, one gradient: whatever the packing, the micro-batch size, the number of ranks, the row order."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from golden_toy import ToyModel, merge, random_batch, view

from raylign.batch import Batch
from raylign.contracts import Objective
from raylign.objectives.aggregate import Aggregation
from raylign.objectives.loss.base import OldLogprob, PolicyLoss
from raylign.objectives.loss.cross_entropy import CrossEntropy
from raylign.objectives.loss.policy import CISPO, GSPO, ClippedLoss, Reinforce
from raylign.objectives.loss.value import ValueLoss
from raylign.objectives.mismatch import Mismatch, MismatchConfig
from raylign.packing import pack

LOSSES = (ClippedLoss, GSPO, CISPO, Reinforce)


def policy(loss: type[PolicyLoss], mode: Aggregation, mismatch: Mismatch = Mismatch.none) -> PolicyLoss:
    return loss(
        loss.Config(
            old_logprob=OldLogprob.recompute,
            aggregation=mode,
            constant_length=8 if mode is Aggregation.constant else 0,
            kl_coef=0.1,
            entropy_coef=0.05,
            mismatch=MismatchConfig(mode=mismatch, low=0.5, high=1.5),
        )
    )


OBJECTIVES: dict[str, Objective] = {
    **{f"{loss.__name__}_{mode.name}": policy(loss, mode) for loss in LOSSES for mode in Aggregation},
    **{f"mismatch_{kind.name}": policy(ClippedLoss, Aggregation.token, kind) for kind in Mismatch},
    "value": ValueLoss(ValueLoss.Config()),
    "ce": CrossEntropy(CrossEntropy.Config(aggregation=Aggregation.sequence)),
}


def batch_with_close_logprobs() -> Batch:
    """Old, sampler and reference log-probs near the toy model's, so that ratios straddle the bounds."""
    batch = random_batch(seed=1, groups=5, size=4)
    weight = np.ones(batch.tokens, np.float32)
    weight[batch.offsets[2] : batch.offsets[3]] = 0.0  # a dropped row must not depend on the split either
    own = np.zeros(batch.tokens)
    [[micro]] = pack(batch, 1, 10**6, True)
    own[micro.token_index] = ToyModel()(batch, micro)["logprob"].detach().numpy()
    rng = np.random.default_rng(2)
    noisy = {
        name: np.where(batch["loss_mask"], own + 0.3 * rng.standard_normal(batch.tokens), 0.0)
        for name in ("old_logprob", "sampler_logprob", "ref_logprob")
    }
    return batch.with_streams(weight=weight, **noisy)


BATCH = batch_with_close_logprobs()


def step(
    objective: Objective, batch: Batch, ranks: int, budget: int, share: bool
) -> tuple[dict[str, float], list[torch.Tensor], dict[str, float]]:
    """Components, gradients and metrics as the learner makes them: each rank its own backward, then a sum."""
    prepared = objective.prepare(batch)
    model = ToyModel()
    parameters = list(model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    components: dict[str, float] = {}
    metrics: dict[str, float] = {}
    for rank in pack(batch, ranks, budget, share):
        model.zero_grad()
        for micro in rank:
            terms = objective.terms(view(prepared, micro, **model(prepared, micro)))
            sum(terms.components.values()).backward()
            for name, value in terms.components.items():
                components[name] = components.get(name, 0.0) + value.item()
            merge(metrics, terms.metrics)
        for kept, parameter in zip(total, parameters, strict=True):
            kept += parameter.grad
    return components, total, metrics


@cache
def whole(name: str) -> tuple[dict[str, float], list[torch.Tensor], dict[str, float]]:
    return step(OBJECTIVES[name], BATCH, 1, 10**6, False)


def assert_same(name: str, result: tuple[dict[str, float], list[torch.Tensor], dict[str, float]]) -> None:
    components, gradients, metrics = whole(name)
    assert result[0] == pytest.approx(components, rel=1e-10, abs=1e-12)
    assert result[2] == pytest.approx(metrics, rel=1e-10, abs=1e-12)
    assert max(gradient.abs().max().item() for gradient in gradients) > 1e-3
    for one, two in zip(result[1], gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(("ranks", "budget"), [(1, 10**6), (1, 1), (1, 30), (2, 25), (2, 10**6), (3, 12)])
@pytest.mark.parametrize("share", [True, False])
def test_split_does_not_matter(name: str, ranks: int, budget: int, share: bool) -> None:
    assert_same(name, step(OBJECTIVES[name], BATCH, ranks, budget, share))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_order_of_rows_does_not_matter(name: str) -> None:
    order = np.random.default_rng(7).permutation(len(BATCH))
    assert_same(name, step(OBJECTIVES[name], BATCH.select(order), 2, 40, True))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_ranks_without_work_add_nothing(name: str) -> None:
    """One row on four ranks: three compute dummies, and the sum is the row's own loss."""
    batch = BATCH.select([0])
    alone, spread = step(OBJECTIVES[name], batch, 1, 100, True), step(OBJECTIVES[name], batch, 4, 100, True)
    assert spread[0] == pytest.approx(alone[0], rel=1e-12)
    assert spread[2] == pytest.approx(alone[2], rel=1e-12)
    for one, two in zip(spread[1], alone[1], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=0)
