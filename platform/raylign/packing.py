"""Rows -> micro-batches without padding: exact prompt sharing, a token budget, balanced ranks. Pure NumPy.

Only what a loss token needs is computed: the hidden state that predicts token t sits at t - 1, so a row is computed up
to the predecessor of its last loss token and no further. Attention is causal, so the hidden states of a prompt are the
same for every row of its group: the prompt is computed once per micro-batch and each row's remainder attends to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raylign.columns import Columns

Int64s = NDArray[np.int64]

# Cost of one (query, key) pair relative to one token through the linear layers: about 1 / (6 * hidden size). It only
# weighs long rows against short ones when ranks are balanced, so the order of magnitude is enough.
PAIR_COST = 1.0 / 6144.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """What one forward and backward computes.

    A segment ``(start, length, prefix_start, prefix_length)`` says: queries ``start : start + length`` attend causally
    to themselves and fully to the prefix span (none when prefix_length is 0). Segments cover 0..M without gaps.

    Example: prompt [5, 6], rows continuing with [9, 2] and [7, 2], loss on both continuations:
    ``token_ids=[5, 6, 9, 7]``, ``segments=[[0, 2, 0, 0], [2, 1, 0, 2], [3, 1, 0, 2]]``, ``predict_index=[1, 2, 1, 3]``.
    """

    rows: Int64s  # [R] indices of the batch's rows in it (empty for a dummy)
    token_ids: Int64s  # [M] computed tokens, no padding
    position_ids: Int64s  # [M] position of each in its row
    segments: Int64s  # [S, 4]
    predict_index: Int64s  # [K] position in 0..M of the hidden state that predicts loss token k
    token_index: Int64s  # [K] index of loss token k in the batch's flat streams
    segment: Int64s  # [K] number 0..R-1 of its row within the micro-batch

    @property
    def tokens(self) -> int:
        """M, the number of computed tokens."""
        return len(self.token_ids)

    @property
    def cost(self) -> float:
        """Estimated compute in token units: tokens plus attention pairs."""
        length, prefix = self.segments[:, 1], self.segments[:, 3]
        return float(self.tokens + PAIR_COST * np.sum(length * prefix + length * (length + 1) // 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The rows that have a loss, and what each needs. Arrays are indexed by batch row."""

    batch: Columns
    need: Int64s  # [B] computed tokens of the row on its own, 0: leave it out
    shared: Int64s  # [B] length of the part that it may share
    key: Int64s  # [B] rows with the same key share it

    def by_key(self) -> list[list[int]]:
        """The rows that need compute, by key."""
        used = np.flatnonzero(self.need > 0)
        used = used[np.argsort(self.key[used], kind="stable")]
        cuts = np.flatnonzero(np.diff(self.key[used])) + 1
        return [part.tolist() for part in np.split(used, cuts) if len(part)]

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


def pack(
    batch: Columns, ranks: int, budget: int, share_prompts: bool, whole_groups: bool = False
) -> list[list[MicroBatch]]:
    """Micro-batches by ``[rank][micro step]``; every rank gets the same number, filled up with one-token dummies.

    `budget` is computed tokens per micro-batch; a row that is longer gets one of its own. A group may be split, its
    prompt is then repeated; with `whole_groups` it never is, and a group that is longer than the budget gets a
    micro-batch of its own. Rows without loss tokens are left out. Raises ValueError when a row has a loss on its first
    token (nothing predicts it), or when rows of one group differ inside their first prompt_length tokens.
    """
    if ranks < 1 or budget < 1:
        raise ValueError(f"ranks and budget must be at least 1, got {ranks} and {budget}")
    rows = _needed(batch, share_prompts, whole_groups)
    keys = rows.by_key()
    if not keys:
        return [[dummy()] for _ in range(ranks)]
    total = sum(rows.tokens(key) for key in keys)
    target = total / (ranks * -(-total // (ranks * budget)))
    # A whole group is cheapest; a finer cut lets more ranks share it. Try a few grains, keep the shortest makespan.
    grains = [min(budget, int(limit)) for limit in (budget, target, target / 2, target / 4, 0)]
    if ranks == 1 or max(map(len, keys)) == 1:
        grains = [budget]
    if whole_groups:
        grains = [max(map(rows.tokens, keys)) + 1]  # longer than any group, so nothing is cut
    plans = [_plan(rows, keys, ranks, budget, grain) for grain in dict.fromkeys(grains)]
    best = min(plans, key=_makespan)
    return [[_build(rows, chunk) for chunk in rank] for rank in best]


def dummy() -> MicroBatch:
    """The smallest micro-batch: one token, no loss. Keeps ranks in step when one has nothing left to do."""
    none = np.zeros(0, np.int64)
    return MicroBatch(
        rows=none,
        token_ids=np.zeros(1, np.int64),
        position_ids=np.zeros(1, np.int64),
        segments=np.array([[0, 1, 0, 0]], np.int64),
        predict_index=none,
        token_index=none,
        segment=none,
    )


def with_equal_segments(plan: Sequence[Sequence[MicroBatch]]) -> list[list[MicroBatch]]:
    """The plan with one-token segments added until all ranks have the same number of segments in each micro step.

    For models that run once per segment: ranks that share weights must run equally often.
    """
    most = [max(len(micro.segments) for micro in step) for step in zip(*plan, strict=True)]
    return [[_with_segments(micro, count) for micro, count in zip(rank, most, strict=True)] for rank in plan]


def _with_segments(micro: MicroBatch, count: int) -> MicroBatch:
    extra = count - len(micro.segments)
    zeros = np.zeros(extra, np.int64)
    starts = micro.tokens + np.arange(extra)
    return replace(
        micro,
        token_ids=np.concatenate([micro.token_ids, zeros]),
        position_ids=np.concatenate([micro.position_ids, zeros]),
        segments=np.concatenate([micro.segments, np.stack([starts, zeros + 1, zeros, zeros], 1)]),
    )


def computed_tokens(plan: Sequence[Sequence[MicroBatch]]) -> int:
    """Tokens that all ranks together push through the model, dummies and repeated prompts included."""
    return sum(micro.tokens for rank in plan for micro in rank)


def useful_tokens(batch: Columns, share_prompts: bool) -> int:
    """The least number of tokens that must be computed: each row's need, a shared prompt once per group."""
    rows = _needed(batch, share_prompts)
    return sum(rows.tokens(members) for members in rows.by_key())


def efficiency(batch: Columns, plan: Sequence[Sequence[MicroBatch]], share_prompts: bool) -> float:
    """useful tokens / computed tokens, in (0, 1]."""
    return useful_tokens(batch, share_prompts) / max(computed_tokens(plan), 1)


def balance(plan: Sequence[Sequence[MicroBatch]]) -> float:
    """Mean over max of the ranks' estimated compute, in (0, 1]; 1 means that no rank waits for another."""
    costs = [sum(micro.cost for micro in rank) for rank in plan]
    return sum(costs) / (len(costs) * max(costs))


# ------------------------------------------------------------------------------------------------------ planning

_Chunk = list[list[int]]  # rows of one micro-batch, by key
_Plan = list[list[tuple[_Chunk, float]]]  # [rank][micro step] -> chunk and cost


def _needed(batch: Columns, share_prompts: bool, whole_groups: bool = False) -> _Rows:
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
        return _Rows(batch=batch, need=need, shared=shared, key=key)
    if not share_prompts:
        return _Rows(batch=batch, need=need, shared=np.zeros_like(need), key=np.arange(len(batch), dtype=np.int64))
    # Rows of a group share their prompt only when they agree on how long it is.
    pairs = np.stack([batch.groups.astype(np.int64), batch.prompt_lengths.astype(np.int64)], axis=1)
    key = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    _check_prompts(batch, key, need)
    return _Rows(batch=batch, need=need, shared=batch.prompt_lengths.astype(np.int64), key=key)


def _group_prompts(batch: Columns) -> Int64s:
    """[B] prompt length of the row's group, 0 where its rows do not agree on it: they then share nothing."""
    group = np.unique(batch.groups, return_inverse=True)[1].reshape(-1)
    shortest = np.full(len(batch), np.iinfo(np.int64).max)
    np.minimum.at(shortest, group, batch.prompt_lengths)
    agree = np.ones(len(batch), bool)
    np.logical_and.at(agree, group, batch.prompt_lengths == shortest[group])
    return np.where(agree[group], batch.prompt_lengths, 0).astype(np.int64)


def _check_prompts(batch: Columns, key: Int64s, need: Int64s) -> None:
    first: dict[int, int] = {}
    for row in np.flatnonzero(need > 0).tolist():
        leader = first.setdefault(int(key[row]), row)
        length = int(batch.prompt_lengths[row])
        mine, theirs = (batch.row(index, "token_ids")[:length] for index in (row, leader))
        if not np.array_equal(mine, theirs):
            raise ValueError(
                f"rows {leader} and {row} of group {int(batch.groups[row])} differ in their first {length} tokens"
            )


def _plan(rows: _Rows, keys: Sequence[list[int]], ranks: int, budget: int, grain: int) -> _Plan:
    """Cut groups into pieces of at most `grain` tokens, fill bins largest first, deal the bins to the ranks."""
    pieces = [piece for key in keys for piece in _cut(rows, key, grain)]
    tokens = [rows.tokens(piece) for piece in pieces]
    costs = [rows.cost(piece) for piece in pieces]
    order = sorted(range(len(pieces)), key=lambda i: (-costs[i], pieces[i]))
    steps = max(1, -(-sum(min(size, budget) for size in tokens) // (ranks * budget)))  # a longer piece fills one bin
    while (bins := _fill(order, tokens, costs, ranks * steps, budget)) is None:
        steps += 1
    loads = [sum(costs[i] for i in members) for members in bins]
    plan: _Plan = [[] for _ in range(ranks)]
    total = [0.0] * ranks
    by_load = sorted(range(len(bins)), key=lambda b: (-loads[b], b))
    for step in range(steps):  # bins of one micro step are alike, the heaviest goes to the rank with the least so far
        heavy = by_load[step * ranks : (step + 1) * ranks]
        for bin_, rank in zip(heavy, sorted(range(ranks), key=lambda r: (total[r], r)), strict=True):
            plan[rank].append(([pieces[i] for i in bins[bin_]], loads[bin_]))
            total[rank] += loads[bin_]
    return plan


def _cut(rows: _Rows, members: list[int], grain: int) -> list[list[int]]:
    """The fewest near-equal pieces of one group with at most `grain` computed tokens each (or single rows)."""
    order = sorted(members, key=lambda row: (-rows.need[row], row))
    shared = int(np.minimum(rows.need[order], rows.shared[order]).max())
    rest = int(np.maximum(rows.need[order] - rows.shared[order], 0).sum())
    if grain <= shared:
        return [[row] for row in order]
    count = max(1, -(-rest // (grain - shared)))
    while count < len(order):
        pieces: list[list[int]] = [[] for _ in range(count)]
        load = [0] * count
        for row in order:
            lightest = load.index(min(load))
            pieces[lightest].append(row)
            load[lightest] += max(int(rows.need[row] - rows.shared[row]), 0)
        if all(rows.tokens(piece) <= grain for piece in pieces if piece):
            return [sorted(piece) for piece in pieces if piece]
        count += 1
    return [[row] for row in order]


def _fill(
    order: Sequence[int], tokens: Sequence[int], costs: Sequence[float], count: int, budget: int
) -> list[list[int]] | None:
    """Longest-processing-time packing into `count` bins under the budget, or None when it does not fit."""
    bins: list[list[int]] = [[] for _ in range(count)]
    held, load = np.zeros(count, np.int64), np.zeros(count)
    for piece in order:
        room = (held + tokens[piece] <= budget) | (held == 0)
        if not room.any():
            return None
        best = int(np.argmin(np.where(room, load, np.inf)))
        bins[best].append(piece)
        held[best] += tokens[piece]
        load[best] += costs[piece]
    return bins


def _makespan(plan: _Plan) -> tuple[float, int, float]:
    costs = np.array([[cost for _, cost in rank] for rank in plan])
    return float(costs.sum(axis=1).max()), costs.shape[1], float(costs.sum())


# ------------------------------------------------------------------------------------------------------ building


def _build(rows: _Rows, chunk: tuple[_Chunk, float]) -> MicroBatch:
    pieces: dict[int, list[int]] = {}
    for piece in chunk[0]:  # pieces of one group that met again in a bin share one prompt
        pieces.setdefault(int(rows.key[piece[0]]), []).extend(piece)
    if not pieces:
        return dummy()
    source: list[Int64s] = []  # flat index of each computed token
    positions: list[Int64s] = []
    segments: list[tuple[int, int, int, int]] = []
    predict: list[Int64s] = []
    loss: list[Int64s] = []
    owner: list[int] = []
    start = 0
    for members in pieces.values():
        alone = len(members) == 1
        prefix = 0 if alone else int(np.minimum(rows.need[members], rows.shared[members]).max())
        prefix_start, offsets = start, rows.batch.offsets
        if prefix:
            leader = max(members, key=lambda row: min(rows.need[row], rows.shared[row]))
            source.append(np.arange(offsets[leader], offsets[leader] + prefix))
            positions.append(np.arange(prefix))
            segments.append((start, prefix, 0, 0))
            start += prefix
        for row in members:
            shared = 0 if alone else int(rows.shared[row])
            length = max(int(rows.need[row]) - shared, 0)
            if length:
                source.append(np.arange(offsets[row] + shared, offsets[row] + shared + length))
                positions.append(np.arange(shared, shared + length))
                segments.append((start, length, prefix_start if prefix else 0, prefix))
            at = np.flatnonzero(rows.batch.row(row, "loss_mask"))
            before = at - 1
            predict.append(np.where(before < shared, prefix_start + before, start + before - shared))
            loss.append(offsets[row] + at)
            owner.append(row)
            start += length
    index = np.concatenate(source)
    return MicroBatch(
        rows=np.array(owner, np.int64),
        token_ids=rows.batch["token_ids"][index].astype(np.int64),
        position_ids=np.concatenate(positions),
        segments=np.array(segments, np.int64),
        predict_index=np.concatenate(predict).astype(np.int64),
        token_index=np.concatenate(loss).astype(np.int64),
        segment=np.repeat(np.arange(len(owner)), [len(part) for part in loss]).astype(np.int64),
    )
