"""What each row of a batch needs computed: up to the predecessor of its last loss token, its group's prompt shared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raylign.batch import Batch

Int64s = NDArray[np.int64]

# Cost of one (query, key) pair relative to one token through the linear layers: about 1 / (6 * hidden size). It only
# weighs long rows against short ones when ranks are balanced, so the order of magnitude is enough.
PAIR_COST = 1.0 / 6144.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RowNeeds:
    """The rows that have a loss, and what each needs. Arrays are indexed by batch row."""

    batch: Batch
    need: Int64s  # [B] computed tokens of the row on its own, 0: leave it out
    shared: Int64s  # [B] length of the part that it may share
    key: Int64s  # [B] rows with the same key share it

    def by_key(self) -> list[list[int]]:
        """The rows that need compute, by key."""
        used = np.flatnonzero(self.need > 0)
        used = used[np.argsort(self.key[used], kind="stable")]
        cuts = np.flatnonzero(np.diff(self.key[used])) + 1
        return [rows.tolist() for rows in np.split(used, cuts) if len(rows)]

    def tokens(self, rows: list[int]) -> int:
        """Computed tokens of some rows of one key."""
        need, shared = self.need[rows], self.shared[rows]
        return int(np.minimum(need, shared).max() + np.maximum(need - shared, 0).sum())

    def cost(self, rows: list[int]) -> float:
        """Estimated compute of some rows of one key."""
        need, shared = self.need[rows], self.shared[rows]
        prefix, rest = int(np.minimum(need, shared).max()), np.maximum(need - shared, 0)
        pairs = prefix * (prefix + 1) / 2 + float(np.sum(rest * shared + rest * (rest + 1) / 2))
        return prefix + float(rest.sum()) + PAIR_COST * pairs


def row_needs(batch: Batch, share_prompts: bool, whole_groups: bool = False) -> RowNeeds:
    """Raises ValueError when a row has a loss on its first token, or rows of one prompt differ inside their first
    prompt_length tokens. whole_groups: rows of a group have one key also where they do not agree on their prompt.
    """
    mask = np.asarray(batch["loss_mask"], bool)
    position = np.arange(batch.tokens) - np.repeat(batch.offsets[:-1], batch.lengths)
    first = np.flatnonzero(mask & (position == 0))
    if len(first):
        raise ValueError(
            f"row {int(batch.row_of_token[first[0]])} has a loss on its first token, which nothing predicts"
        )
    need = np.zeros(len(batch), np.int64)
    np.maximum.at(need, batch.row_of_token[mask], position[mask])
    if whole_groups:
        shared, key = _group_prompts(batch) if share_prompts else np.zeros_like(need), batch.groups.astype(np.int64)
        _check_prompts(batch, np.where(shared > 0, key, -1 - np.arange(len(batch))), need)
        return RowNeeds(batch=batch, need=need, shared=shared, key=key)
    if not share_prompts:
        return RowNeeds(batch=batch, need=need, shared=np.zeros_like(need), key=np.arange(len(batch), dtype=np.int64))
    # Rows share their prompt only when they agree on how long it is.
    pairs = np.stack([batch.prompts.astype(np.int64), batch.prompt_lengths.astype(np.int64)], axis=1)
    key = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    _check_prompts(batch, key, need)
    return RowNeeds(batch=batch, need=need, shared=batch.prompt_lengths.astype(np.int64), key=key)


def _group_prompts(batch: Batch) -> Int64s:
    """[B] prompt length of the row's group, 0 where its rows do not agree on the prompt: they then share nothing."""
    group = np.unique(batch.groups, return_inverse=True)[1].reshape(-1)
    agree = np.ones(len(batch), bool)
    for of_row in (batch.prompts, batch.prompt_lengths):
        least = np.full(len(batch), np.iinfo(np.int64).max)
        np.minimum.at(least, group, of_row)
        np.logical_and.at(agree, group, of_row == least[group])
    return np.where(agree[group], batch.prompt_lengths, 0).astype(np.int64)


def _check_prompts(batch: Batch, key: Int64s, need: Int64s) -> None:
    first: dict[int, int] = {}
    for row in np.flatnonzero(need > 0).tolist():
        leader = first.setdefault(int(key[row]), row)
        length = int(batch.prompt_lengths[row])
        mine, theirs = (batch.row(index, "token_ids")[:length] for index in (row, leader))
        if not np.array_equal(mine, theirs):
            raise ValueError(
                f"rows {leader} and {row} of prompt {int(batch.prompts[row])} differ in their first {length} tokens"
            )
