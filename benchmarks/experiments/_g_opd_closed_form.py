"""Experiments A, B and E of G-OPD, without a language model: fixed point, invariance, reward correction.

A state is a prefix and has its own softmax over actions, so that the per-prefix optimum of the method is known exactly:
pi proportional to pi*^lambda pi_ref^(1 - lambda).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raylign.recipes.g_opd import token_advantage

Float64s = NDArray[np.float64]

LAMBDAS = (0.0, 0.5, 1.0, 1.25, 1.5, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Log-probs [states, actions] of base and teacher, and the right action of each state."""

    base: Float64s
    teacher: Float64s
    right: NDArray[np.int64]

    @classmethod
    def draw(cls, states: int = 64, actions: int = 12, seed: int = 0) -> Environment:
        """Base logits N(0, 1); the teacher has 1.5 more on the right action and N(0, 0.3) on all."""
        rng = np.random.default_rng(seed)
        base = rng.normal(size=(states, actions))
        right = rng.integers(actions, size=states)
        teacher = base + rng.normal(scale=0.3, size=base.shape)
        teacher[np.arange(states), right] += 1.5
        return cls(base=log_softmax(base), teacher=log_softmax(teacher), right=right)

    def target(self, reward_weight: float, reference: Float64s) -> Float64s:
        """Log-probs of the optimum, normalised per state."""
        return log_softmax(reward_weight * self.teacher + (1 - reward_weight) * reference)

    def accuracy(self, policy: Float64s) -> float:
        """Mean probability of the right action under log-probs [states, actions]."""
        return float(np.exp(policy[np.arange(len(policy)), self.right]).mean())


def train(
    environment: Environment,
    reward_weight: float,
    reference: Float64s,
    *,
    seed: int = 0,
    steps: int = 3000,
    samples: int = 32,
) -> Float64s:
    """Log-probs of a student that starts at the base and follows sampled actions and their A_t alone.

    SGD at rate 0.5, in the last third at 0.05.
    """
    rng = np.random.default_rng(seed)
    logits = environment.base.copy()
    states = np.arange(len(logits))[:, None]
    for step in range(steps):
        policy = log_softmax(logits)
        chosen = (policy[:, None, :] + rng.gumbel(size=(len(logits), samples, logits.shape[1]))).argmax(axis=2)
        taken = [table[states, chosen] for table in (policy, environment.teacher, reference)]
        advantage = token_advantage(taken[0], taken[1], taken[2], reward_weight)
        gradient = -np.exp(policy) * advantage.mean(axis=1, keepdims=True)
        np.add.at(gradient, (np.broadcast_to(states, chosen.shape), chosen), advantage / samples)
        logits += (0.5 if step < 2 * steps // 3 else 0.05) * gradient
    return log_softmax(logits)


def divergence(student: Float64s, target: Float64s) -> float:
    """Mean over states of KL(student || target)."""
    return float((np.exp(student) * (student - target)).sum(axis=1).mean())


def reward_correction(reward_weight: float, states: int = 4000, actions: int = 20, seed: int = 0) -> dict[str, float]:
    """Accuracy of the optimum when the reference is the teacher's own base, and when it is a weaker student's."""
    environment = Environment.draw(states, actions, seed)
    noise = np.random.default_rng(seed + 1).normal(scale=0.5, size=environment.base.shape)
    student = log_softmax(0.4 * environment.base + noise)
    references = {"teacher base": environment.base, "student base": student}
    return {name: environment.accuracy(environment.target(reward_weight, ref)) for name, ref in references.items()}


def log_softmax(logits: Float64s) -> Float64s:
    """Over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
