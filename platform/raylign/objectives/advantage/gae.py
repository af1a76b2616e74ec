"""Generalised advantage estimation over rows whose sampled tokens may be broken up by observations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from raylign.batch import Batch
from raylign.contracts import Advantage
from raylign.objectives.advantage.base import Float64s, checked_scores, without_missing
from raylign.objectives.aggregate import counted_tokens
from raylign.objectives.kl import RewardKl
from raylign.objectives.whiten import Whiten, whiten
from raylign.records import Float32s


class RewardAt(Enum):
    """Where a row's reward lies: its score at the last sampled token, what the environment gave at the end of each turn
    (stream `turn_reward`), or both.
    """

    end = "end"
    turns = "turns"
    both = "both"


class GAE(Advantage):
    """delta_k = r_k + gamma V_{k+1} - V_k, A_k = delta_k + gamma lam A_{k+1} (arXiv:1506.02438, eq. 16).

    k runs over the *sampled* tokens of a row: the recursion carries through observation tokens, which take no step of
    gamma or lam and have no value of their own (zeroing their value instead is right only at gamma = lam = 1). The
    value after the last sampled token is 0. r is the row's score at its last sampled token or the turns'
    rewards (`reward_at`), minus kl_coef times the KL to the reference.

    `return` = A + V before whitening. A NaN score is missing: advantage 0, weight 0, return = value.
    """

    @dataclass
    class Config(RewardKl):
        """Every choice that changes the number."""

        gamma: float = 1.0
        lam: float = 0.95
        reward_at: RewardAt = RewardAt.end
        whiten: Whiten = Whiten.batch

        def __post_init__(self) -> None:
            for name in ("gamma", "lam"):
                if not 0 <= getattr(self, name) <= 1:
                    raise ValueError(f"{name} is {getattr(self, name)}, set it between 0 and 1")

    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def whole_trajectories(self) -> bool:
        """The value of a token is that of what follows it."""
        return True

    @property
    def needs(self) -> frozenset[str]:
        """`value`, and `ref_logprob` (and `old_logprob`) when KL is in the reward."""
        return frozenset({"value"}) | self.config.kl_streams

    def assign(self, batch: Batch, scores: Float32s) -> tuple[Batch, dict[str, float]]:
        """Fill `advantage` and `return`; zero `weight` on missing rows. scores: [B], NaN where missing."""
        config, rows = self.config, batch.row_of_token
        row_reward = checked_scores(scores, len(batch))
        valid = ~np.isnan(row_reward)
        index = np.flatnonzero(batch["loss_mask"])
        counts = np.bincount(rows[index], minlength=len(batch))
        penalty = config.kl_penalty(batch)
        reward = (np.zeros(batch.tokens) if config.reward_at is RewardAt.end else _turn_rewards(batch)) - penalty
        value = np.asarray(batch["value"], np.float64)[index]
        compact = reward[index]
        ends = np.cumsum(counts) - 1
        scored = valid & (counts > 0)
        if config.reward_at is not RewardAt.turns:
            compact[ends[scored]] += row_reward[scored]
        advantage, returns = np.zeros(batch.tokens), np.zeros(batch.tokens)
        advantage[index] = np.where(valid[rows[index]], _gae(compact, value, counts, config.gamma, config.lam), 0.0)
        returns[index] = advantage[index] + value
        batch = without_missing(batch, valid)
        counted = counted_tokens(batch)
        metrics = {
            "advantage/invalid_rows": float(np.mean(~valid)) if len(batch) else 0.0,
            "advantage/score": float(np.mean(row_reward[valid])) if valid.any() else 0.0,
            "advantage/return": float(np.mean(returns[counted])) if counted.any() else 0.0,
            "advantage/abs": float(np.mean(np.abs(advantage[counted]))) if counted.any() else 0.0,
        }
        if config.kl_coef != 0:
            metrics["advantage/kl_penalty"] = float(penalty[counted].sum() / max(np.count_nonzero(valid), 1))
        if config.whiten is Whiten.batch:
            advantage = whiten(advantage, counted)
        streams = {"advantage": advantage.astype(np.float32), "return": returns.astype(np.float32)}
        return batch.with_streams(**streams), metrics


def _turn_rewards(batch: Batch) -> Float64s:
    """[N]. Raises ValueError when the batch has none, or has one where nothing was sampled."""
    if "turn_reward" not in batch:
        raise ValueError("no turn was rewarded: set advantage.reward_at=end, or use an environment that rewards turns")
    reward = np.asarray(batch["turn_reward"], np.float64)
    stray = np.flatnonzero((reward != 0) & ~np.asarray(batch["loss_mask"], bool))
    if len(stray):
        raise ValueError(f"turn_reward lies on token {int(stray[0])}, from which nothing is learned")
    return reward


def _gae(reward: Float64s, value: Float64s, counts: NDArray[np.int64], gamma: float, lam: float) -> Float64s:
    """[K] advantages of rows laid end to end, row i having counts[i] sampled tokens. All rows step back together."""
    starts = np.cumsum(counts) - counts
    order = np.argsort(-counts, kind="stable")
    ascending = np.sort(counts)
    result = np.zeros(len(reward))
    for step in range(int(counts.max(initial=0)) - 1, -1, -1):
        longer = len(counts) - int(np.searchsorted(ascending, step, side="right"))  # rows that have this token
        rows = order[:longer]
        at = starts[rows] + step
        more = counts[rows] > step + 1
        following = np.where(more, at + 1, at)
        delta = reward[at] + np.where(more, gamma * value[following], 0.0) - value[at]
        result[at] = delta + np.where(more, gamma * lam * result[following], 0.0)
    return result
