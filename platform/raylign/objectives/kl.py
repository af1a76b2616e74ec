"""Per-token estimators of KL(policy || reference) from samples of the policy (Schulman, "Approximating KL", 2020).

With d = log pi - log ref: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d. Their values agree in expectation (k2 up to
second order); what they *optimise* does not. On-policy, by exact enumeration (the tests do it):

=========  =======================================  ==========================================
estimator  added to the loss                        subtracted from the reward
=========  =======================================  ==========================================
k1         gradient 0 in expectation (no effect)    gradient of the reverse KL(policy || ref)
k2         gradient of the reverse KL               neither KL
k3         gradient of the forward KL(ref||policy)  reverse minus forward KL
=========  =======================================  ==========================================

Multiplied by the importance ratio, gradient included (`kl_ratio` of the policy loss), k1 and k3 in the loss both give
the reverse KL. So ``k1`` in the reward and ``k2`` in the loss regularise as papers write it; ``k3`` in the loss is
GRPO's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from raylign.batch import Batch
from raylign.lazy import torch

T = TypeVar("T", NDArray[np.float64], "torch.Tensor")


class KlEstimator(Enum):
    """Which estimator; the module's docstring says what each optimises."""

    k1 = "k1"
    k2 = "k2"
    k3 = "k3"


class LogprobSource(Enum):
    """Whose log-prob stands for the policy that sampled, where no gradient is needed."""

    sampler = "sampler"  # what the engine reported while sampling; no extra pass
    recompute = "recompute"  # the stream `old_logprob`, recomputed by the learner before its first update


def kl(estimator: KlEstimator, logprob: T, ref_logprob: T) -> T:
    """Per-token estimate, same shape as the arguments; torch tensors keep their gradient. Never clamped."""
    difference = logprob - ref_logprob
    if estimator is KlEstimator.k1:
        return difference
    if estimator is KlEstimator.k2:
        return difference * difference / 2
    if isinstance(difference, np.ndarray | float):
        return np.expm1(-difference) + difference
    return torch.expm1(-difference) + difference


@dataclass
class RewardKl:
    """KL to the reference inside the reward: the fields that a `Config` inherits to have it. kl_coef 0: none."""

    kl_coef: float = 0.0
    kl_estimator: KlEstimator = KlEstimator.k1  # only k1 optimises a KL from the reward
    kl_logprob: LogprobSource = LogprobSource.sampler

    @property
    def kl_streams(self) -> frozenset[str]:
        """Streams that `kl_penalty` reads beyond those always present."""
        if self.kl_coef == 0:
            return frozenset()
        return frozenset({"ref_logprob"} | ({"old_logprob"} if self.kl_logprob is LogprobSource.recompute else set()))

    def kl_penalty(self, batch: Batch) -> NDArray[np.float64]:
        """[N] kl_coef times the KL estimate of each loss token, 0 elsewhere."""
        if self.kl_coef == 0:
            return np.zeros(batch.tokens)
        policy = batch["sampler_logprob" if self.kl_logprob is LogprobSource.sampler else "old_logprob"]
        value = kl(self.kl_estimator, np.asarray(policy, np.float64), np.asarray(batch["ref_logprob"], np.float64))
        return self.kl_coef * np.where(batch["loss_mask"], value, 0.0)
