"""Patterns of three behaviours: counts, distributions, and how far two of these are apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from raylign.recipes.inject_rbp.behaviours import CONCLUSION, SYMBOLS

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]

ORDER = 3  # behaviours of a pattern
GRAMS = tuple("".join(symbols) for symbols in product(SYMBOLS, repeat=ORDER))  # G(3), all 216 of them
NUMBER = {gram: number for number, gram in enumerate(GRAMS)}
ADMISSIBLE = tuple(gram for gram in GRAMS if CONCLUSION not in gram[:-1])  # nothing follows a conclusion


def grams(chain: str) -> list[int]:
    """The patterns of a chain by number, one for each of its L - 2 places."""
    return [NUMBER[chain[start : start + ORDER]] for start in range(len(chain) - ORDER + 1)]


def counts_of(chains: Sequence[str]) -> Int64s:
    """[K, 216] how often each pattern stands in each chain."""
    counts = np.zeros((len(chains), len(GRAMS)), np.int64)
    for row, chain in enumerate(chains):
        np.add.at(counts[row], grams(chain), 1)
    return counts


def frequencies(chains: Iterable[str]) -> Int64s:
    """[216] freq_D(g): how often each pattern stands in all chains together."""
    numbers = [number for chain in chains for number in grams(chain)]
    return np.bincount(np.array(numbers, np.int64), minlength=len(GRAMS))


def distribution(counts: NDArray[np.int64] | Float64s) -> Float64s:
    """p_D(g) = freq_D(g) / sum freq_D along the last axis; all 0, and no distribution, where nothing was counted."""
    total = counts.sum(-1, keepdims=True)
    shares: Float64s = counts / np.where(total > 0, total, 1)
    return shares


def jensen_shannon(p: Float64s, q: Float64s) -> Float64s:
    """Jensen-Shannon divergence in bits, between 0 and 1, along the last axis; 0 where both are empty."""
    middle = (p + q) / 2
    divergence: Float64s = (_relative(p, middle) + _relative(q, middle)) / 2
    return divergence


def top(p: Float64s, count: int) -> dict[str, float]:
    """The `count` most frequent patterns that occur, with their shares of one another; of equal ones the first."""
    order = [number for number in np.argsort(-p, kind="stable")[:count] if p[number] > 0]
    total = float(sum(p[number] for number in order))
    return {GRAMS[number]: float(p[number]) / total for number in order}


def as_distribution(patterns: dict[str, float]) -> Float64s:
    """[216] of patterns with their shares."""
    p = np.zeros(len(GRAMS))
    for gram, share in patterns.items():
        p[NUMBER[gram]] = share
    return p


def _relative(p: Float64s, q: Float64s) -> Float64s:
    """Kullback-Leibler divergence in bits; q is positive wherever p is."""
    there = p > 0
    terms = np.where(there, p * np.log2(np.where(there, p, 1) / np.where(there, q, 1)), 0.0)
    total: Float64s = terms.sum(-1)
    return total
