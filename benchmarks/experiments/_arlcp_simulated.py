"""Experiment C of ARLCP: a policy of two categorical choices per difficulty, trained by RLOO on the recipe's reward.

Actions of difficulty d in {1, 5, 10}: k reflections in 0..25, f fillers in 0..20. Length 20 + 6 k + 3 f.
P(correct) = low + (high - low) sigmoid(2 (k - d + 0.5)): d reflections are essential, the rest is waste.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raylign.recipes.arlcp.shaper import BudgetSplit, ReflectionPenalty, shape_group, sigmoid

Float64s = NDArray[np.float64]

DIFFICULTIES = (1, 5, 10)
ODDS = ((0.5, 0.95), (0.3, 0.8), (0.25, 0.45))  # (low, high) by difficulty
SAMPLES, GROUPS = 16, 16

REWARDS = {
    "correctness only": ReflectionPenalty.Config(alpha=0.0, n_1=6, n_2=12),
    "reflection only": ReflectionPenalty.Config(split=BudgetSplit.reflection, n_1=6, n_2=12),
    "length only": ReflectionPenalty.Config(split=BudgetSplit.length, n_1=6, n_2=12),
    "ARLCP": ReflectionPenalty.Config(n_1=6, n_2=12),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a policy does in expectation (no sampling): per difficulty, and the mean over difficulties."""

    reflections: tuple[float, ...]
    fillers: tuple[float, ...]
    length: float
    accuracy: float


class SimulatedPolicy:
    """Independent softmax choices of k and f, one pair per difficulty; starts as bells at k = d + 8 and f = 12."""

    def __init__(self) -> None:
        k, f = np.arange(26.0), np.arange(21.0)
        self.k = np.stack([-((k - d - 8) ** 2) / 32 for d in DIFFICULTIES])
        self.f = np.stack([-((f - 12) ** 2) / 32 for _ in DIFFICULTIES])

    def train(self, config: ReflectionPenalty.Config, seed: int, steps: int = 300, lr: float = 6.0) -> None:
        """RLOO on the shaped reward, `GROUPS` groups of `SAMPLES` a step, plain ascent on each difficulty's mean."""
        rng = np.random.default_rng(seed)
        for _ in range(steps):
            gradient_k, gradient_f = np.zeros_like(self.k), np.zeros_like(self.f)
            rows = rng.integers(len(DIFFICULTIES), size=GROUPS)
            for row in rows:
                p_k, p_f = softmax(self.k[row]), softmax(self.f[row])
                k = rng.choice(len(p_k), SAMPLES, p=p_k)
                f = rng.choice(len(p_f), SAMPLES, p=p_f)
                right = rng.random(SAMPLES) < accuracy(k, row)
                reward = shape_group(k.astype(float), 20.0 + 6 * k + 3 * f, right, right, config).reward
                advantage = (reward - reward.mean()) * SAMPLES / (SAMPLES - 1)
                np.add.at(gradient_k[row], k, advantage)
                np.add.at(gradient_f[row], f, advantage)
                gradient_k[row] -= advantage.sum() * p_k
                gradient_f[row] -= advantage.sum() * p_f
            seen = SAMPLES * np.maximum(np.bincount(rows, minlength=len(DIFFICULTIES)), 1)[:, None]
            self.k += lr * gradient_k / seen
            self.f += lr * gradient_f / seen

    def outcome(self) -> Outcome:
        """Exact expectations under the present logits."""
        k, f = np.arange(26), np.arange(21)
        p_k, p_f = softmax(self.k), softmax(self.f)
        mean_k, mean_f = p_k @ k, p_f @ f
        right = [float(p @ accuracy(k, row)) for row, p in enumerate(p_k)]
        return Outcome(
            reflections=tuple(map(float, mean_k)),
            fillers=tuple(map(float, mean_f)),
            length=float(np.mean(20 + 6 * mean_k + 3 * mean_f)),
            accuracy=float(np.mean(right)),
        )


def accuracy(k: NDArray[np.int64], row: int) -> Float64s:
    """P(correct) of k reflections at the difficulty with this index."""
    low, high = ODDS[row]
    return low + (high - low) * sigmoid(2 * (k - DIFFICULTIES[row] + 0.5))


def softmax(logits: Float64s) -> Float64s:
    """Over the last axis."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def simulate(seeds: int = 3, steps: int = 300) -> dict[str, Outcome]:
    """Mean outcome over seeds of every reward, and of the policy before training."""
    outcomes = {"start": SimulatedPolicy().outcome()}
    for name, config in REWARDS.items():
        runs = []
        for seed in range(seeds):
            policy = SimulatedPolicy()
            policy.train(config, seed, steps)
            runs.append(policy.outcome())
        outcomes[name] = Outcome(
            reflections=tuple(np.mean([run.reflections for run in runs], axis=0).tolist()),
            fillers=tuple(np.mean([run.fillers for run in runs], axis=0).tolist()),
            length=float(np.mean([run.length for run in runs])),
            accuracy=float(np.mean([run.accuracy for run in runs])),
        )
    return outcomes
