"""Group-relative advantages: GRPO, Dr. GRPO, RLOO, REINFORCE++ and its baseline variant, by named choices.

========================  =============  ======  ======  =====================================================
algorithm                 baseline       std     whiten  paper
========================  =============  ======  ======  =====================================================
GRPO                      mean           sample  none    arXiv:2402.03300: (R - mean) / std
Dr. GRPO                  mean           none    none    arXiv:2503.20783: R - mean
RLOO                      leave_one_out  none    none    arXiv:2402.14740: R_i - mean_{j != i} R_j
REINFORCE++               none           none    batch   arXiv:2501.03262: KL to go in the reward, batch whitening
REINFORCE++ with baseline mean           none    batch   the same after subtracting the group mean
========================  =============  ======  ======  =====================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from raylign.columns import Columns
from raylign.contracts import Credit
from raylign.objectives.aggregate import counted_tokens
from raylign.objectives.kl import KlEstimator, LogprobSource, reward_kl, reward_kl_needs
from raylign.objectives.whiten import Whiten, whiten
from raylign.records import Float32s

Float64s = NDArray[np.float64]


class Baseline(Enum):
    """What is subtracted from a sample's return: its group's mean, the mean of the others, or nothing."""

    mean = "mean"
    leave_one_out = "leave_one_out"
    none = "none"


class Std(Enum):
    """What the deviation is divided by (plus epsilon).

    `sample`: group std with G - 1 (TRL, verl). `population`: with G. `leave_one_out`: sample std of the other G - 1
    returns; where the others do not vary the deviation is left undivided, as there is no scale to be had from them.
    """

    none = "none"
    sample = "sample"
    population = "population"
    leave_one_out = "leave_one_out"


class KlCredit(Enum):
    """Which share of a row's KL penalty a token answers for: all of it, or what follows (itself included)."""

    total = "total"
    to_go = "to_go"


class KlOrder(Enum):
    """Where the KL penalty meets the baseline; it is charged once in either case.

    `before_baseline`: R - coef * sum KL is the return that baseline and std are computed from (RLOO).
    `after_baseline`: baseline and std see R alone, the penalty is subtracted from the advantages (REINFORCE++).
    """

    before_baseline = "before_baseline"
    after_baseline = "after_baseline"


class GroupCredit(Credit):
    """Advantages from the scores of a group, the same on every loss token of a row (KL to go excepted).

    Exact zeros by rule, never by dividing by epsilon: with a baseline, a group whose valid returns are all equal (up to
    float32 rounding) and a group with one valid sample get 0. A NaN score marks an invalid sample: advantage 0,
    weight 0, in no statistic. Statistics are float64.
    """

    @dataclass
    class Config:
        """Every choice that changes the number."""

        baseline: Baseline = Baseline.mean
        std: Std = Std.sample
        epsilon: float = 1e-6  # added to the std (TRL 1e-4, verl 1e-6)
        whiten: Whiten = Whiten.none
        kl_coef: float = 0.0  # KL to the reference in the reward
        kl_estimator: KlEstimator = KlEstimator.k1  # only k1 optimises a KL from the reward, see kl.py
        kl_credit: KlCredit = KlCredit.total
        kl_order: KlOrder = KlOrder.before_baseline
        kl_logprob: LogprobSource = LogprobSource.sampler

        def __post_init__(self) -> None:
            if self.epsilon < 0:
                raise ValueError(f"epsilon is {self.epsilon}, set it to 0 or more")
            to_go = self.kl_credit is KlCredit.to_go and self.kl_order is KlOrder.before_baseline
            if self.kl_coef != 0 and to_go:
                raise ValueError(
                    "kl_credit=to_go differs per token and a group baseline is one number per row: "
                    "set kl_order=after_baseline or kl_credit=total"
                )

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def needs(self) -> frozenset[str]:
        """`ref_logprob` (and `old_logprob`) when KL is in the reward."""
        return reward_kl_needs(self.config.kl_coef, self.config.kl_logprob)

    @property
    def compares_samples(self) -> bool:
        """Unless neither baseline nor std is taken."""
        return self.config.baseline is not Baseline.none or self.config.std is not Std.none

    def assign(self, batch: Columns, scores: Float32s) -> tuple[Columns, dict[str, float]]:
        """Fill `advantage`; zero `weight` on invalid rows. scores: [B], NaN where invalid; raises on infinity."""
        config, rows = self.config, batch.row_of_token
        returns = _checked(scores, len(batch))
        valid = ~np.isnan(returns)
        mask = np.asarray(batch["loss_mask"], bool)
        penalty = np.zeros(batch.tokens)
        if config.kl_coef != 0:
            penalty = config.kl_coef * reward_kl(batch, config.kl_estimator, config.kl_logprob)
        total = np.bincount(rows, weights=penalty, minlength=len(batch))
        before = config.kl_order is KlOrder.before_baseline
        deviations, flat = _deviations(returns - total if before else returns, batch.groups, valid, config)
        advantage = deviations[rows]
        if not before:
            advantage = advantage - (total[rows] if config.kl_credit is KlCredit.total else _to_go(penalty, batch))
        advantage = np.where(mask & valid[rows], advantage, 0.0)
        weight = np.where(valid[rows], batch["weight"], 0.0).astype(np.float32)
        batch = batch.with_streams(weight=weight)
        counted = counted_tokens(batch)
        if config.whiten is Whiten.batch:
            advantage = whiten(advantage, counted)
        metrics = {
            "credit/flat_groups": flat,
            "credit/invalid_rows": float(np.mean(~valid)) if len(batch) else 0.0,
            "credit/score": float(np.mean(returns[valid])) if valid.any() else 0.0,
            "credit/advantage_abs": float(np.mean(np.abs(advantage[counted]))) if counted.any() else 0.0,
        }
        if config.kl_coef != 0:
            metrics["credit/kl_penalty"] = float(np.mean(total[valid])) if valid.any() else 0.0
        return batch.with_streams(advantage=advantage.astype(np.float32)), metrics


def _checked(scores: Float32s, rows: int) -> Float64s:
    returns = np.asarray(scores, np.float64)
    if returns.shape != (rows,):
        raise ValueError(f"scores have shape {returns.shape}, expected ({rows},)")
    if np.isinf(returns).any():
        raise ValueError(f"score of row {int(np.flatnonzero(np.isinf(returns))[0])} is infinite")
    return returns


def _deviations(
    returns: Float64s, groups: NDArray[np.int32], valid: NDArray[np.bool_], config: GroupCredit.Config
) -> tuple[Float64s, float]:
    """[B] (R - baseline) / (std + epsilon), 0 on invalid rows, and the share of groups without any variation."""
    result = np.zeros(len(returns))
    order = np.flatnonzero(valid)
    order = order[np.argsort(groups[order], kind="stable")]
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    members = [part for part in np.split(order, cuts) if len(part)]
    flat = 0
    for part in members:
        group = returns[part]
        varies = _varies(group)
        flat += not varies
        if varies:
            result[part] = _center(group, config.baseline) / _scale(group, config)
        elif config.baseline is Baseline.none and config.std is Std.none:
            result[part] = group
    return result, flat / max(len(members), 1)


def _varies(group: Float64s) -> bool:
    """Whether returns differ by more than the rounding of float32, in which rewards travel."""
    return bool(np.ptp(group) > 4 * np.finfo(np.float32).eps * np.abs(group).max())


def _center(group: Float64s, baseline: Baseline) -> Float64s:
    if baseline is Baseline.none:
        return group
    deviation = group - group.mean()
    if baseline is Baseline.mean:
        return deviation
    return deviation * (len(group) / (len(group) - 1))  # R_i - mean of the others, the same number


def _scale(group: Float64s, config: GroupCredit.Config) -> Float64s | float:
    if config.std is Std.none:
        return 1.0
    if config.std is Std.leave_one_out:
        scale = np.ones(len(group))
        for index in range(len(group)):
            others = np.delete(group, index)
            if _varies(others):
                scale[index] = others.std(ddof=1) + config.epsilon
        return scale
    return float(group.std(ddof=1 if config.std is Std.sample else 0)) + config.epsilon


def _to_go(penalty: Float64s, batch: Columns) -> Float64s:
    """[N] sum of the row's penalty from each token to the row's end."""
    running = np.concatenate([np.zeros(1), np.cumsum(penalty)])
    return running[batch.offsets[1:]][batch.row_of_token] - running[:-1]
