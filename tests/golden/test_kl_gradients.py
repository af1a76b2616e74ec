"""What each KL estimator optimises, by exact enumeration of a softmax of five actions: the table in kl.py."""

from __future__ import annotations

import golden_reference as reference
import numpy as np
import pytest
import torch
from golden_toy import evaluate

from raylign.batch import Batch
from raylign.objectives.kl import KlEstimator, kl
from raylign.objectives.loss.base import PolicyLoss
from raylign.objectives.loss.policy import ClippedLoss, Reinforce

ACTIONS = 5
ROWS = torch.arange(ACTIONS).repeat_interleave(2)  # one row per action: a prompt token, then the action
GENERATOR = torch.Generator().manual_seed(2)
LOGITS = torch.randn(ACTIONS, dtype=torch.float64, generator=GENERATOR, requires_grad=True)
REFERENCE = torch.log_softmax(torch.randn(ACTIONS, dtype=torch.float64, generator=GENERATOR), 0)


class Enumerated(PolicyLoss):
    """Rows re-weighted from 1 / ACTIONS to the probability of their action: the loss becomes an exact expectation."""

    def prepare(self, batch: Batch) -> Batch:
        batch = super().prepare(batch)
        scale = ACTIONS * torch.softmax(LOGITS, 0).detach()[ROWS].numpy()
        names = ("policy_weight", "penalty_weight")
        return batch.with_streams(**{name: batch[name].astype(np.float64) * scale for name in names})


class EnumeratedClip(Enumerated, ClippedLoss): ...


class EnumeratedReinforce(Enumerated, Reinforce): ...


def on_actions(values: torch.Tensor | np.ndarray) -> np.ndarray:
    """[2 * ACTIONS] the values on the action tokens, 0 on the prompts."""
    stream = np.zeros((ACTIONS, 2))
    stream[:, 1] = values
    return stream.reshape(-1)


def batch_of(advantage: np.ndarray) -> Batch:
    return Batch(
        offsets=np.arange(0, 2 * ACTIONS + 1, 2),
        prompt_lengths=np.ones(ACTIONS, np.int32),
        groups=np.zeros(ACTIONS, np.int32),
        streams={
            "token_ids": np.zeros(2 * ACTIONS, np.int32),
            "loss_mask": on_actions(np.ones(ACTIONS)).astype(bool),
            "sampler_logprob": on_actions(torch.log_softmax(LOGITS, 0).detach()),
            "ref_logprob": on_actions(REFERENCE),
            "advantage": on_actions(advantage),
            "weight": on_actions(np.ones(ACTIONS)),
        },
    )


def gradient(objective: PolicyLoss, advantage: np.ndarray, component: str) -> torch.Tensor:
    logp = torch.log_softmax(LOGITS, 0)
    components, _ = evaluate(objective, batch_of(advantage), logprob=logp[ROWS])
    return torch.autograd.grad(components[component], LOGITS)[0]


def in_loss(name: str, ratio: bool = False) -> torch.Tensor:
    config = ClippedLoss.Config(kl_coef=1.0, kl_estimator=KlEstimator[name], kl_ratio=ratio)
    return gradient(EnumeratedClip(config), np.zeros(ACTIONS), "kl")


def in_reward(name: str) -> torch.Tensor:
    logp = torch.log_softmax(LOGITS, 0).detach()
    penalty = [reference.k(name, x, y) for x, y in zip(logp.tolist(), REFERENCE.tolist(), strict=True)]
    return gradient(EnumeratedReinforce(Reinforce.Config()), -np.array(penalty), "policy")


def reverse() -> torch.Tensor:
    logp = torch.log_softmax(LOGITS, 0)
    return torch.autograd.grad(torch.sum(logp.exp() * (logp - REFERENCE)), LOGITS)[0]


def forward() -> torch.Tensor:
    logp = torch.log_softmax(LOGITS, 0)
    return torch.autograd.grad(torch.sum(REFERENCE.exp() * (REFERENCE - logp)), LOGITS)[0]


def same(one: torch.Tensor, two: torch.Tensor) -> bool:
    return bool(torch.allclose(one, two, rtol=0, atol=1e-7))


def test_the_two_divergences_differ() -> None:
    assert not torch.allclose(reverse(), forward(), atol=1e-2)
    assert reverse().abs().max() > 1e-2


def test_in_the_loss() -> None:
    assert same(in_loss("k1"), torch.zeros(ACTIONS, dtype=torch.float64))
    assert same(in_loss("k2"), reverse())
    assert same(in_loss("k3"), forward())


def test_in_the_loss_times_the_ratio() -> None:
    assert same(in_loss("k1", ratio=True), reverse())
    assert same(in_loss("k3", ratio=True), reverse())
    assert not torch.allclose(in_loss("k2", ratio=True), reverse(), atol=1e-2)


def test_in_the_reward() -> None:
    assert same(in_reward("k1"), reverse())
    assert same(in_reward("k3"), reverse() - forward())
    for name in ("k2", "k3"):
        assert not torch.allclose(in_reward(name), reverse(), atol=1e-2)
        assert not torch.allclose(in_reward(name), forward(), atol=1e-2)


def test_k3_in_both_places_is_the_reverse_kl() -> None:
    assert same(in_reward("k3") + in_loss("k3"), reverse())


@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
def test_estimators_in_numpy_and_torch(name: str) -> None:
    rng = np.random.default_rng(0)
    lp, ref = -rng.random(50) * 5, -rng.random(50) * 5
    expected = [reference.k(name, x, y) for x, y in zip(lp, ref, strict=True)]
    np.testing.assert_allclose(kl(KlEstimator[name], lp, ref), expected, rtol=1e-12)
    ours = kl(KlEstimator[name], torch.tensor(lp), torch.tensor(ref))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-12)
