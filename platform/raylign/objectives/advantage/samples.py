"""Rows -> the samples that an advantage compares: trajectories, or what their calls of one role said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raylign.batch import Batch

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What an advantage compares: S samples of one or more rows each, and the group of each.

    Example: a trajectory of two rows beside one of one row: ``of_row=[0, 0, 1], groups=[0, 0]``
    """

    of_row: Int64s  # [B] sample of each row
    groups: Int64s  # [S]


def compared_samples(batch: Batch, by_role: bool) -> Compared:
    """Trajectories; with by_role what each role said in one. Raises ValueError by_role where no row has a role."""
    if by_role and not np.any(batch.roles != ""):
        raise ValueError("by_role=true and no call has a role: take a strategy that names them, or set by_role=false")
    role = np.unique(batch.roles, return_inverse=True)[1].reshape(-1) * by_role
    keys = np.stack([batch.groups.astype(np.int64), role, batch.samples.astype(np.int64)], axis=1)
    samples, of_row = np.unique(keys, axis=0, return_inverse=True)
    groups = np.unique(samples[:, :2], axis=0, return_inverse=True)[1].reshape(-1)
    return Compared(of_row=of_row.reshape(-1), groups=groups)


def one_of_each(rewards: Float64s, compared: Compared) -> Float64s:
    """[S] the score of each sample. rewards: [B]. Raises ValueError where its rows do not agree."""
    first = np.full(len(compared.groups), len(rewards), np.int64)
    np.minimum.at(first, compared.of_row, np.arange(len(rewards)))
    of_first = rewards[first][compared.of_row]
    differing = np.flatnonzero((rewards != of_first) & ~(np.isnan(rewards) & np.isnan(of_first)))
    if len(differing):
        row = int(differing[0])
        raise ValueError(
            f"rows {int(first[compared.of_row[row]])} and {row} of one trajectory have the scores "
            f"{of_first[row]:g} and {rewards[row]:g}: set advantage.by_role=true, or score it as a whole"
        )
    return rewards[first]
