"""The rewards of some groups as one table, samples by rewards, and statistics of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raylign.contracts import finite
from raylign.records import Absent, Group, Value

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]
ROUNDING = 1e-12  # of the largest value: values that are no farther apart are equal


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTable:
    """S samples of G groups, in their order, and K rewards.

    Example: ``table_of(groups, ["orm", "safety"]).raw[:, 0]``
    """

    names: tuple[str, ...]
    raw: Float64s  # [S, K], NaN where a reward was not measured, or does not apply
    applies: Bools  # [S, K], False where a reward does not apply (`Absent`)
    groups: Int64s  # [S] number of the group
    domains: tuple[str, ...]  # [G]


def table_of(groups: Sequence[Group], names: Sequence[str]) -> RewardTable:
    """The rewards of these names. Raises ValueError on one that is not finite."""
    raw, applies, numbers = [], [], []
    for number, group in enumerate(groups):
        for trajectory in group.trajectories:
            rewards = [trajectory.rewards.get(name) for name in names]
            raw.append(
                [
                    finite(reward.score, f"reward {name} of {trajectory.prompt_key}")
                    if isinstance(reward, Value)
                    else np.nan
                    for name, reward in zip(names, rewards, strict=True)
                ]
            )
            applies.append([not isinstance(reward, Absent) for reward in rewards])
            numbers.append(number)
    shape = (len(numbers), len(names))
    return RewardTable(
        names=tuple(names),
        raw=np.array(raw, np.float64).reshape(shape),
        applies=np.array(applies, bool).reshape(shape),
        groups=np.array(numbers, np.int64),
        domains=tuple(group.prompt.domain for group in groups),
    )


def means(values: Float64s) -> Float64s:
    """[K] over the samples that have a value; NaN where none has."""
    there = ~np.isnan(values)
    counts = there.sum(axis=0)
    sums = np.where(there, values, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def stds(values: Float64s) -> Float64s:
    """[K] of the whole population; NaN where no sample has a value."""
    return np.sqrt(means((values - means(values)) ** 2))


def residuals(values: Float64s, groups: Int64s) -> Float64s:
    """[S, K] values less the mean of their group: what differs between samples of one prompt, not between prompts.

    Exactly 0 where all samples of a group have the same value, whose mean is rounded.
    """
    result = np.full(values.shape, np.nan)
    for group in np.unique(groups):
        rows = groups == group
        own = values[rows]
        apart = own - means(own)
        apart[:, _flat(own)] *= 0.0  # NaN stays
        result[rows] = apart
    return result


def _flat(values: Float64s) -> Bools:
    """[K] whether all samples that have a value have the same one, but for rounding."""
    there = ~np.isnan(values)
    least = np.where(there, values, np.inf).min(axis=0, initial=np.inf)
    most = np.where(there, values, -np.inf).max(axis=0, initial=-np.inf)
    size = np.where(there, np.abs(values), 0.0).max(axis=0, initial=0.0)
    return np.asarray(most - least <= ROUNDING * size)


def correlations(values: Float64s, groups: Int64s) -> Float64s:
    """[K, K] of the residuals within groups, over the samples that have both; 0 where one of the two does not vary."""
    within = residuals(values, groups)
    count = values.shape[1]
    result = np.eye(count)
    for i in range(count):
        for j in range(i):
            both = ~np.isnan(within[:, i]) & ~np.isnan(within[:, j])
            a, b = within[both, i], within[both, j]
            scale = np.sqrt((a @ a) * (b @ b))
            result[i, j] = result[j, i] = (a @ b) / scale if scale > 0 else 0.0
    return result


def variance_shares(parts: Float64s, groups: Int64s) -> Float64s:
    """[K] variance of each summand within groups, over the sum of all of them; all 0 where none varies."""
    variances = np.nan_to_num(means(residuals(parts, groups) ** 2))
    total = variances.sum()
    return np.asarray(variances / total if total > 0 else np.zeros_like(variances))


def flat_shares(values: Float64s, groups: Int64s) -> Float64s:
    """[K] share of the groups in which a reward is the same for all samples that have it: there it teaches nothing."""
    numbers = np.unique(groups)
    flat = np.zeros(values.shape[1])
    for group in numbers:
        flat += _flat(values[groups == group])
    return flat / max(len(numbers), 1)
