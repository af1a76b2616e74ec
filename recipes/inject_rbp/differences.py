"""Whether two sets of chains differ in their patterns: Jensen-Shannon divergence, and p by permuting their labels.

p = (1 + permutations whose divergence is at least the one observed) / (1 + permutations)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raylign.recipes.inject_rbp.patterns import Float64s, Int64s, distribution, jensen_shannon

Bools = NDArray[np.bool_]
CHUNK = 64  # permutations at a time
ROUNDING = 1e-12  # the same chains permuted are as far apart as they were


class Difference(NamedTuple):
    """Divergence in bits, and the chance of one as large between sets that do not differ."""

    divergence: float
    p: float


def difference(counts: Int64s, first: Bools, units: Sequence[str], permutations: int, seed: int) -> Difference | None:
    """Between the chains that `first` marks and the others, whole units permuted.

    counts: [K, 216] patterns of each chain. units: [K] what is permuted as one, all chains of it on one side (all
    samples of a question, between families). None where one side has no pattern.
    """
    names, of_chain = np.unique(np.asarray(units), return_inverse=True)
    sums, side = np.zeros((len(names), counts.shape[1])), np.zeros(len(names), bool)
    np.add.at(sums, of_chain, counts)
    side[of_chain] = first
    rng = np.random.default_rng(seed)
    return _tested(sums, side, lambda: rng.permutation(side), permutations)


def difference_within(
    counts: Int64s, first: Bools, groups: Sequence[str], permutations: int, seed: int
) -> Difference | None:
    """The same with labels permuted among the chains of one group only (the answers to one question).

    What differs between groups, such as how hard a question is, plays no part in p.
    """
    _, of_chain = np.unique(np.asarray(groups), return_inverse=True)
    together = np.argsort(of_chain, kind="stable")
    rng = np.random.default_rng(seed)

    def permuted() -> Bools:
        shuffled = np.lexsort((rng.random(len(first)), of_chain))
        labels = np.empty(len(first), bool)
        labels[together] = first[shuffled]
        return labels

    return _tested(counts.astype(np.float64), first, permuted, permutations)


def _tested(sums: Float64s, side: Bools, permuted: Callable[[], Bools], permutations: int) -> Difference | None:
    total = sums.sum(0)
    observed = _divergence(side[None], sums, total)
    if np.isnan(observed[0]):
        return None
    larger = 0
    for start in range(0, permutations, CHUNK):
        sides = np.stack([permuted() for _ in range(min(CHUNK, permutations - start))])
        larger += int((_divergence(sides, sums, total) >= observed[0] - ROUNDING).sum())
    return Difference(float(observed[0]), (1 + larger) / (1 + permutations))


def _divergence(sides: Bools, sums: Float64s, total: Float64s) -> Float64s:
    """[R] of each way to take sides; NaN where one side is empty."""
    one = sides.astype(np.float64) @ sums
    other = total - one
    divergence = jensen_shannon(distribution(one), distribution(other))
    result: Float64s = np.where((one.sum(1) > 0) & (other.sum(1) > 0), divergence, np.nan)
    return result
