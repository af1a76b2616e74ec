"""What all advantages of a group share, so that a method is its formula and nothing else.

A method derives from `GroupAdvantage` and writes one hook, `of_group`: [G] rewards -> [G] advantages. Missing rewards,
groups of equal rewards, samples of several rows, roles, KL in the reward, scores by token, whitening, the loss mask and
the weights of missing rows are dealt with here.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raylign.batch import Batch
from raylign.contracts import Advantage, Part, RolloutStrategy
from raylign.errors import Problem
from raylign.objectives.advantage.samples import Int64s, compared_samples, one_of_each
from raylign.objectives.advantage.tokens import token_share, token_terms, unjudged
from raylign.objectives.aggregate import counted_tokens
from raylign.objectives.kl import RewardKl
from raylign.objectives.whiten import Whiten, whiten
from raylign.records import Float32s

if TYPE_CHECKING:
    from raylign.config.resolve import Run

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
    """One advantage per sample from the rewards of its group, on every loss token of it (KL to go excepted), and what
    single tokens score beside it: A_t = A + sum over k of token_weights[k] * s_k,t (RELATE, arXiv:2602.11780).

    A sample is a trajectory, in one row or several (`Batch.samples`); with `by_role` it is what a trajectory's calls of
    one role said, compared with the same role of the others in the group (PRIME, arXiv:2602.11170; Sci-CoE,
    arXiv:2602.12164). Each is counted once, however many rows it has.
    A NaN reward is missing, and so is one whose tokens nobody could judge though they are weighed: its row gets
    advantage 0 and weight 0 and enters no statistic. Where a method compares the rows of a group (`compares_samples`),
    a group of one row and a group whose rewards are all equal (up to the rounding of float32) get exactly 0, never a
    division by epsilon. Statistics are float64.
    """

    compares_samples = True

    @dataclass
    class Config(RewardKl):
        """What may be done around any formula; KL in the reward is off while kl_coef is 0."""

        kl_share: KlShare = KlShare.total
        kl_order: KlOrder = KlOrder.before_baseline
        whiten: Whiten = Whiten.none
        by_role: bool = False
        token_weights: dict[str, float] = field(default_factory=dict)  # of scores by token, by name; 0: logged only
        center_tokens: bool = False  # less the group's mean of them, so that they move no mean advantage

        def __post_init__(self) -> None:
            if wrong := [name for name, weight in self.token_weights.items() if not math.isfinite(weight)]:
                raise ValueError(f"token_weights.{wrong[0]} is {self.token_weights[wrong[0]]}: set a finite number")
            if self.center_tokens and not any(self.token_weights.values()):
                raise ValueError("center_tokens centres scores by token, and none is weighed: set token_weights.NAME")
            to_go = self.kl_share is KlShare.to_go and self.kl_order is KlOrder.before_baseline
            if self.kl_coef != 0 and to_go:
                raise ValueError(
                    "kl_share=to_go differs per token and a group baseline is one number per row: "
                    "set kl_order=after_baseline or kl_share=total"
                )

    config: Config

    @classmethod
    def problems(cls, key: str, config: Any, run: Run) -> list[Problem]:
        """Roles can be compared where a strategy names them."""
        stages = [stage for stage in run.stages if stage.batch and run.part("advantage", stage.name).key == key]
        strategies = [run.parts.get(f"{stage.key}.strategy") or run.parts.get("rollout.strategy") for stage in stages]
        nameless = [part for part in strategies if part and not _names_roles(part.cls)]
        if not config.by_role or not nameless:
            return []
        why = f"compares roles, and {nameless[0].key}={nameless[0].cls.__name__} names none"
        fix = f"set {key}.by_role=false, or a strategy whose class says which `roles` its calls have"
        return [Problem(key=f"{key}.by_role", value="true", why=why, fix=fix)]

    def __init__(self, config: Config) -> None:
        self.config = config

    @abstractmethod
    def of_group(self, rewards: Float64s) -> Float64s:
        """[G] advantages of one group. rewards: [G], none missing; where groups are compared, not all equal."""

    @property
    def token_weights(self) -> Mapping[str, float]:
        """Of scores by token."""
        return self.config.token_weights

    @property
    def by_role(self) -> bool:
        """Whether samples are compared within their role only."""
        return self.config.by_role

    @property
    def whole_trajectories(self) -> bool:
        """KL to go is summed along a trajectory."""
        return self.config.kl_coef != 0 and self.config.kl_share is KlShare.to_go

    @property
    def needs(self) -> frozenset[str]:
        """`ref_logprob` (and `old_logprob`) when KL is in the reward."""
        return self.config.kl_streams

    def assign(self, batch: Batch, scores: Float32s) -> tuple[Batch, dict[str, float]]:
        """Fill `advantage`; zero `weight` on missing rows. scores: [B], NaN where missing.

        Raises ValueError on infinity, and where rows of one sample have different scores.
        """
        rewards, compared = checked_scores(scores, len(batch)), compared_samples(batch, self.config.by_role)
        rows, tokens = compared.of_row, compared.of_row[batch.row_of_token]
        rewards = np.where(unjudged(batch, compared, self.config.token_weights), np.nan, one_of_each(rewards, compared))
        valid = ~np.isnan(rewards)
        penalty = self.config.kl_penalty(batch)
        total = np.bincount(tokens, weights=penalty, minlength=len(rewards))
        before = self.config.kl_order is KlOrder.before_baseline
        by_sample, flat = self._by_sample(rewards - total if before else rewards, compared.groups, valid)
        advantage = by_sample[tokens]
        if not before:
            to_go = self.config.kl_share is KlShare.to_go
            advantage = advantage - (_to_go(penalty, batch) if to_go else total[tokens])
        advantage = np.where(np.asarray(batch["loss_mask"], bool) & valid[tokens], advantage, 0.0)
        weights = self.config.token_weights
        of_tokens, token_metrics = token_terms(batch, compared, valid, weights, self.config.center_tokens)
        if weights:
            token_metrics["advantage/token_share"] = token_share(advantage, of_tokens)
        advantage = advantage + of_tokens
        batch = without_missing(batch, valid[rows])
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
        metrics |= token_metrics
        return batch.with_streams(advantage=advantage.astype(np.float32)), metrics

    def _by_sample(self, rewards: Float64s, groups: Int64s, valid: NDArray[np.bool_]) -> tuple[Float64s, float]:
        """[S] advantages, 0 on missing ones, and the share of groups whose rewards are all equal."""
        result = np.zeros(len(rewards))
        order = np.flatnonzero(valid)
        order = order[np.argsort(groups[order], kind="stable")]
        cuts = np.flatnonzero(np.diff(groups[order])) + 1
        members = [samples for samples in np.split(order, cuts) if len(samples)]
        flat = 0
        for samples in members:
            differ = rewards_differ(rewards[samples])
            flat += not differ
            if differ or not self.compares_samples:
                result[samples] = self.of_group(rewards[samples])
        return result, flat / max(len(members), 1)


def _names_roles(cls: type[Part]) -> bool:
    """Whether a strategy does; of a class that is none somebody else says so."""
    return not issubclass(cls, RolloutStrategy) or bool(cls.roles)


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
