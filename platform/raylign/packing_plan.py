"""Which rows share a micro-batch, and on which rank: groups cut into pieces, pieces put into bins, bins dealt out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raylign.row_needs import RowNeeds

Chunk = list[list[int]]  # rows of one micro-batch, by key
Plan = list[list[tuple[Chunk, float]]]  # [rank][micro step] -> chunk and cost


def plan_of(rows: RowNeeds, keys: Sequence[list[int]], ranks: int, budget: int, grain: int) -> Plan:
    """Cut groups into pieces of at most `grain` tokens, fill bins largest first, deal the bins to the ranks."""
    pieces = [piece for key in keys for piece in _cut(rows, key, grain)]
    tokens = [rows.tokens(piece) for piece in pieces]
    costs = [rows.cost(piece) for piece in pieces]
    order = sorted(range(len(pieces)), key=lambda i: (-costs[i], pieces[i]))
    steps = max(1, -(-sum(min(size, budget) for size in tokens) // (ranks * budget)))  # a longer piece fills one bin
    while (bins := _fill(order, tokens, costs, ranks * steps, budget)) is None:
        steps += 1
    loads = [sum(costs[i] for i in members) for members in bins]
    plan: Plan = [[] for _ in range(ranks)]
    total = [0.0] * ranks
    by_load = sorted(range(len(bins)), key=lambda b: (-loads[b], b))
    for step in range(steps):  # bins of one micro step are alike, the heaviest goes to the rank with the least so far
        heavy = by_load[step * ranks : (step + 1) * ranks]
        for bin_, rank in zip(heavy, sorted(range(ranks), key=lambda r: (total[r], r)), strict=True):
            plan[rank].append(([pieces[i] for i in bins[bin_]], loads[bin_]))
            total[rank] += loads[bin_]
    return plan


def _cut(rows: RowNeeds, members: list[int], grain: int) -> list[list[int]]:
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


def makespan(plan: Plan) -> tuple[float, int, float]:
    """To be kept small, in this order: estimated compute of the busiest rank, micro steps, compute of all ranks."""
    costs = np.array([[cost for _, cost in rank] for rank in plan])
    return float(costs.sum(axis=1).max()), costs.shape[1], float(costs.sum())
