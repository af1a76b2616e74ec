"""What all advantages of a group share, so that a method is its formula and nothing else.

A method derives from `GroupAdvantage` and writes one hook, `of_group`: [G] rewards -> [G] advantages. Missing rewards,
groups of equal rewards, KL in the reward, whitening, the loss mask and the weights of missing rows are dealt with here.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from raylign.batch import Batch
from raylign.contracts import Advantage
from raylign.objectives.aggregate import counted_tokens
from raylign.objectives.kl import RewardKl
from raylign.objectives.whiten import Whiten, whiten
from raylign.records import Float32s

Float64s = NDArray[np.float64]


class KlShare(Enum):
    """Which share of a row's KL penalty a token answers for: all of it, or what follows (itself included)."""

    total = "total"
    to_go = "to_go"


class KlOrder(Enum):
    """Where the KL penalty meets the formula of the group; it is charged once in either case.

    `before_baseline`: the group's rewards are R - coef * sum KL (RLOO).
    `after_baseline`: they are R alone, the penalty is subtracted from the advantages (REINFORCE++).
    """

    before_baseline = "before_baseline"
    after_baseline = "after_baseline"


class GroupAdvantage(Advantage):
    """One advantage per row from the rewards of its group, on every loss token of the row (KL to go excepted).

    A NaN reward is missing: its row gets advantage 0 and weight 0 and enters no statistic. Where a method compares the
    rows of a group (`compares_samples`), a group of one row and a group whose rewards are all equal (up to the rounding
    of float32) get exactly 0, never a division by epsilon. Statistics are float64.
    """

    compares_samples = True

    @dataclass
    class Config(RewardKl):
        """What may be done around any formula; KL in the reward is off while kl_coef is 0."""

        kl_share: KlShare = KlShare.total
        kl_order: KlOrder = KlOrder.before_baseline
        whiten: Whiten = Whiten.none

        def __post_init__(self) -> None:
            to_go = self.kl_share is KlShare.to_go and self.kl_order is KlOrder.before_baseline
            if self.kl_coef != 0 and to_go:
                raise ValueError(
                    "kl_share=to_go differs per token and a group baseline is one number per row: "
                    "set kl_order=after_baseline or kl_share=total"
                )

    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    @abstractmethod
    def of_group(self, rewards: Float64s) -> Float64s:
        """[G] advantages of one group. rewards: [G], none missing; where groups are compared, not all equal."""

    @property
    def needs(self) -> frozenset[str]:
        """`ref_logprob` (and `old_logprob`) when KL is in the reward."""
        return self.config.kl_streams

    def assign(self, batch: Batch, scores: Float32s) -> tuple[Batch, dict[str, float]]:
        """Fill `advantage`; zero `weight` on missing rows. scores: [B], NaN where missing; raises on infinity."""
        rows, rewards = batch.row_of_token, checked_scores(scores, len(batch))
        valid = ~np.isnan(rewards)
        penalty = self.config.kl_penalty(batch)
        total = np.bincount(rows, weights=penalty, minlength=len(batch))
        before = self.config.kl_order is KlOrder.before_baseline
        by_row, flat = self._by_row(rewards - total if before else rewards, batch.groups, valid)
        advantage = by_row[rows]
        if not before:
            to_go = self.config.kl_share is KlShare.to_go
            advantage = advantage - (_to_go(penalty, batch) if to_go else total[rows])
        advantage = np.where(np.asarray(batch["loss_mask"], bool) & valid[rows], advantage, 0.0)
        batch = without_missing(batch, valid)
        counted = counted_tokens(batch)
        if self.config.whiten is Whiten.batch:
            advantage = whiten(advantage, counted)
        metrics = {
            "advantage/flat_groups": flat,
            "advantage/invalid_rows": float(np.mean(~valid)) if len(batch) else 0.0,
            "advantage/score": float(np.mean(rewards[valid])) if valid.any() else 0.0,
            "advantage/abs": float(np.mean(np.abs(advantage[counted]))) if counted.any() else 0.0,
        }
        if self.config.kl_coef != 0:
            metrics["advantage/kl_penalty"] = float(np.mean(total[valid])) if valid.any() else 0.0
        return batch.with_streams(advantage=advantage.astype(np.float32)), metrics

    def _by_row(self, rewards: Float64s, groups: NDArray[np.int32], valid: NDArray[np.bool_]) -> tuple[Float64s, float]:
        """[B] advantages, 0 on missing rows, and the share of groups whose rewards are all equal."""
        result = np.zeros(len(rewards))
        order = np.flatnonzero(valid)
        order = order[np.argsort(groups[order], kind="stable")]
        cuts = np.flatnonzero(np.diff(groups[order])) + 1
        members = [rows for rows in np.split(order, cuts) if len(rows)]
        flat = 0
        for rows in members:
            differ = rewards_differ(rewards[rows])
            flat += not differ
            if differ or not self.compares_samples:
                result[rows] = self.of_group(rewards[rows])
        return result, flat / max(len(members), 1)


def checked_scores(scores: Float32s, rows: int) -> Float64s:
    """[B] as float64. Raises ValueError on another shape and on infinity."""
    rewards = np.asarray(scores, np.float64)
    if rewards.shape != (rows,):
        raise ValueError(f"scores have shape {rewards.shape}, expected ({rows},)")
    if np.isinf(rewards).any():
        raise ValueError(f"score of row {int(np.flatnonzero(np.isinf(rewards))[0])} is infinite")
    return rewards


def without_missing(batch: Batch, valid: NDArray[np.bool_]) -> Batch:
    """The batch with `weight` 0 on the rows that are not valid."""
    weight = np.where(valid[batch.row_of_token], batch["weight"], 0.0)
    return batch.with_streams(weight=weight.astype(np.float32))


def mean(rewards: Float64s) -> float:
    """Of the rewards of one group."""
    return float(rewards.mean())


def rewards_differ(rewards: Float64s) -> bool:
    """Whether rewards differ by more than the rounding of float32, in which they travel."""
    return bool(np.ptp(rewards) > 4 * np.finfo(np.float32).eps * np.abs(rewards).max())


def _to_go(penalty: Float64s, batch: Batch) -> Float64s:
    """[N] sum of the row's penalty from each token to the row's end."""
    running = np.concatenate([np.zeros(1), np.cumsum(penalty)])
    remaining: Float64s = running[batch.offsets[1:]][batch.row_of_token] - running[:-1]
    return remaining
