"""Rows -> micro-batches without padding: exact prompt sharing, a token budget, balanced ranks. Pure NumPy.

Only what a loss token needs is computed: the hidden state that predicts token t sits at t - 1, so a row is computed up
to the predecessor of its last loss token and no further. Attention is causal, so the hidden states of a prompt are the
same for every row of its group: the prompt is computed once per micro-batch and each row's remainder attends to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from raylign.batch import Batch
from raylign.packing_plan import Chunk, makespan, plan_of
from raylign.row_needs import PAIR_COST, Int64s, RowNeeds, row_needs


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Input of one forward and backward pass.

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


def pack(
    batch: Batch, ranks: int, budget: int, share_prompts: bool, whole_groups: bool = False
) -> list[list[MicroBatch]]:
    """Micro-batches by ``[rank][micro step]``; every rank gets the same number, filled up with one-token dummies.

    `budget` is computed tokens per micro-batch; a row that is longer gets one of its own. A group may be split, its
    prompt is then repeated; with `whole_groups` it never is, and a group that is longer than the budget gets a
    micro-batch of its own. Rows without loss tokens are left out. Raises ValueError when a row has a loss on its first
    token (nothing predicts it), or when rows of one prompt differ inside their first prompt_length tokens.
    """
    if ranks < 1 or budget < 1:
        raise ValueError(f"ranks and budget must be at least 1, got {ranks} and {budget}")
    rows = row_needs(batch, share_prompts, whole_groups)
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
    plans = [plan_of(rows, keys, ranks, budget, grain) for grain in dict.fromkeys(grains)]
    best = min(plans, key=makespan)
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


def balance(plan: Sequence[Sequence[MicroBatch]]) -> float:
    """Mean over max of the ranks' estimated compute, in (0, 1]; 1 means that no rank waits for another."""
    costs = [sum(micro.cost for micro in rank) for rank in plan]
    return sum(costs) / (len(costs) * max(costs))


def _build(rows: RowNeeds, chunk: tuple[Chunk, float]) -> MicroBatch:
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
        segment=np.repeat(np.arange(len(owner)), [len(indices) for indices in loss]).astype(np.int64),
    )
