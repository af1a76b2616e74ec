"""What a rewrite is paid beyond passing: how likely the base model finds it, and how far it is from its neighbours.

    mu, sigma = mean, std_population + eps of l over S (sigma = 1 below two)      l_i = mean NLL of a rewrite's tokens
    r_dist(i) = 1 / (1 + exp((l_i - mu) / (sigma + eps)))                         0 where l_i is not finite
    dist(u, v) = (1 - u.v) / 2,    D(S) = its mean over unordered pairs (0 below two)
    r_div(i)  = max(0, D(S) - D(S without i))

S are the rewrites that passed the gate. For m = |S| >= 3, with d_i the mean distance of i to the others,

    D(S) - D(S without i) = 2 (d_i - D(S)) / (m - 2),                             and D(S) for m = 2

so that leaving out each of them costs one matrix of products. With t = 1 in S and 0 outside of it,

    r = t + t (lambda_dist r_dist + lambda_div r_div)

or with a soft gate of weight w, for comparison alone, r = w t + lambda_dist r_dist + lambda_div r_div with S everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Float64s: TypeAlias = NDArray[np.float64]
EPSILON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Of the terms. Example: ``Weights(distribution=0.35, diversity=0.5)``"""

    distribution: float
    diversity: float
    soft_gate: float | None = None  # w; None: the gate is hard

    def compared(self, passed: Float64s) -> NDArray[np.int64]:
        """[m] numbers of S. passed: [K] t."""
        everybody = np.ones(len(passed)) if self.soft_gate is not None else passed
        return np.flatnonzero(everybody)


class Terms(NamedTuple):
    """All [K], 0 outside of S: r_dist, r_div, and the three parts of r."""

    likeness: Float64s
    apart: Float64s
    gate: Float64s
    distribution: Float64s
    diversity: Float64s

    @property
    def reward(self) -> Float64s:
        """[K] r."""
        total: Float64s = self.gate + self.distribution + self.diversity
        return total


def terms_of(passed: Float64s, nll: Sequence[float] | Float64s, vectors: Float64s, weights: Weights) -> Terms:
    """What a group is paid. passed: [K] t; of S, in its order: nll [m] and vectors [m, D] of length 1."""
    compared = weights.compared(passed)
    like, apart = np.zeros(len(passed)), np.zeros(len(passed))
    like[compared], apart[compared] = likeness(nll), diversity(vectors)
    gate = passed if weights.soft_gate is None else weights.soft_gate * passed
    return Terms(like, apart, gate, weights.distribution * like, weights.diversity * apart)


def likeness(nll: Sequence[float] | Float64s, epsilon: float = EPSILON) -> Float64s:
    """[m] r_dist of rewrites with these NLL [m]; mean and deviation are over the finite ones, and 0 is for the others.

    epsilon goes into the deviation twice, as in the paper's code.
    """
    losses = np.asarray(nll, np.float64)
    finite = np.isfinite(losses)
    known = losses[finite]
    sigma = float(known.std()) + epsilon if len(known) > 1 else 1.0
    paid = np.zeros(len(losses))
    if len(known):
        paid[finite] = 1.0 / (1.0 + np.exp((known - known.mean()) / (sigma + epsilon)))
    return paid


def distances(vectors: Float64s) -> Float64s:
    """[m, m] (1 - cosine) / 2 of vectors [m, D] of length 1."""
    return np.clip((1.0 - vectors @ vectors.T) / 2.0, 0.0, 1.0)


def spread(vectors: Float64s) -> float:
    """D(S) of vectors [m, D] of length 1."""
    count = len(vectors)
    if count < 2:
        return 0.0
    return float(distances(vectors)[np.triu_indices(count, 1)].mean())


def diversity(vectors: Float64s) -> Float64s:
    """[m] r_div of vectors [m, D] of length 1."""
    count, whole = len(vectors), spread(vectors)
    if count < 3:
        return np.full(count, whole)
    apart = distances(vectors)
    np.fill_diagonal(apart, 0.0)
    gains: Float64s = np.maximum(0.0, 2.0 * (apart.sum(axis=1) / (count - 1) - whole) / (count - 2))
    return gains
