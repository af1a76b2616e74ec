r"""Consensus, reliability and diversity: what a matrix of verdicts and vectors of the strategies are worth.

Verdicts J [N, M] are 1 (accepted), 0 (rejected) or NaN (not asked, or not readable); solutions are i, strategies j::

    c_i    = mean_j J_ij                       chat_i = min(c_i / tau, 1)
    yhat_i = [c_i >= tau max_k c_k]            (relative)  or  [c_i >= tau]  (absolute)
    C_j    = mean_{yhat = 1} J_ij - mean_{yhat = 0} J_ij                          with leave-one-out yhat of c^(-j)
    r_j    = 1 - ||e_j - mu_k(j)|| / (sqrt(2) + 1e-8)                             0 where a cluster has one member
    d_j    = 1 / (M - 1) sum_{l != j} (1 - cos(phi_j - phi_l)) / 2                phi: angles in the plane of 2 PCs

Means are over the verdicts that there are. Everything is float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from raylign.recipes.sci_coe.k_means import k_means

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]
FARTHEST = np.sqrt(2.0) + 1e-8  # the fixed scale of r: between orthogonal unit vectors
SMALL_RADIUS = 1e-6  # below it a projection has no angle
ROUNDING = 1e-12  # 0.8 * 0.75 is not 0.6 in binary


class LabelRule(Enum):
    """Which solutions are taken to be right: near the best of the group, or above a fixed consensus."""

    relative = "relative"
    absolute = "absolute"


class Combine(Enum):
    """How the three terms become one reward: w_c C + w_r r + w_d d, or C r d^(1/3)."""

    sum = "sum"
    product = "product"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the terms depend on beside verdicts and vectors.

    Example: ``Rules(tau=0.8, label=LabelRule.relative, leave_one_out=True, clusters=0)``
    """

    tau: float
    label: LabelRule
    leave_one_out: bool
    clusters: int  # 0: min(5, M // 2), at least 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Of every strategy, [M]: the three terms, and the number of its cluster."""

    consistency: Float64s
    reliability: Float64s
    diversity: Float64s
    clusters: Int64s


def consensus(verdicts: Float64s) -> Float64s:
    """[N] share of the strategies that accept each solution; NaN without any verdict."""
    return _mean(verdicts, axis=1)


def normalised(shares: Float64s, tau: float) -> Float64s:
    """[N] chat: full reward from a consensus of tau on."""
    return np.minimum(shares / tau, 1.0)


def pseudo_labels(shares: Float64s, tau: float, rule: LabelRule) -> Bools:
    """[N, ...] yhat along the first axis. Where nothing is accepted nothing is right, under either rule."""
    known = np.where(np.isnan(shares), -np.inf, shares)
    most = known.max(axis=0, initial=0.0)
    limit = tau * most if rule is LabelRule.relative else np.full_like(most, tau)
    return np.asarray((known >= limit - ROUNDING) & (most > 0), bool)


def separation(verdicts: Float64s, right: Bools) -> Float64s:
    """[M] accepted share of the right solutions minus that of the others; 0 where one of the two has no verdict.

    right: [N], or [N, M] where every strategy is held against labels of its own.
    """
    right = np.broadcast_to(right if right.ndim == 2 else right[:, None], verdicts.shape)
    accepted = [_mean(np.where(side, verdicts, np.nan), axis=0) for side in (right, ~right)]
    return np.nan_to_num(accepted[0] - accepted[1], nan=0.0)


def consistency(verdicts: Float64s, tau: float, rule: LabelRule, leave_one_out: bool) -> Float64s:
    """[M] C. leave_one_out: a strategy's own votes are no part of the consensus that it is held against."""
    if not leave_one_out:
        return separation(verdicts, pseudo_labels(consensus(verdicts), tau, rule))
    there = ~np.isnan(verdicts)
    counts = there.sum(axis=1, keepdims=True) - there
    sums = np.nansum(verdicts, axis=1, keepdims=True) - np.where(there, verdicts, 0.0)
    others = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)  # [N, M] c^(-j)
    return separation(np.where(counts > 0, verdicts, np.nan), pseudo_labels(others, tau, rule))


def reliability(vectors: Float64s, labels: Int64s) -> Float64s:
    """[M] r, between 0 and 1. vectors: [M, D] of length 1; labels: each one's cluster."""
    result = np.zeros(len(vectors))
    for label in np.unique(labels):
        members = labels == label
        if members.sum() > 1:
            distances = np.linalg.norm(vectors[members] - vectors[members].mean(axis=0), axis=1)
            result[members] = np.maximum(1.0 - distances / FARTHEST, 0.0)
    return result


def diversity(vectors: Float64s) -> Float64s:
    """[M] d, between 0 and 1. A vector without an angle has the mean of the others and counts for none of them."""
    plane = _plane(vectors)
    angled = np.hypot(plane[:, 0], plane[:, 1]) >= SMALL_RADIUS
    result = np.zeros(len(vectors))
    if angled.sum() < 2:
        return result
    angles = np.arctan2(plane[angled, 1], plane[angled, 0])
    apart = (1.0 - np.cos(angles[:, None] - angles[None, :])) / 2.0
    result[angled] = apart.sum(axis=1) / (len(angles) - 1)
    result[~angled] = result[angled].mean()
    return result


def terms(verdicts: Float64s, vectors: Float64s, rules: Rules, seed: int) -> Terms:
    """All three terms of the strategies. seed: of the clusters' first centres."""
    count = len(vectors)
    labels = k_means(vectors, rules.clusters or max(min(5, count // 2), 1), seed)
    return Terms(
        consistency=consistency(verdicts, rules.tau, rules.label, rules.leave_one_out),
        reliability=reliability(vectors, labels),
        diversity=diversity(vectors),
        clusters=labels,
    )


def combined(parts: Terms, weights: tuple[float, float, float], combine: Combine) -> Float64s:
    """[M] reward of each strategy. weights: of the sum; a product has none."""
    if combine is Combine.product:
        return parts.consistency * parts.reliability * np.cbrt(parts.diversity)
    return weights[0] * parts.consistency + weights[1] * parts.reliability + weights[2] * parts.diversity


def _plane(vectors: Float64s) -> Float64s:
    """[M, 2] projections on the first two principal components. Rows are decomposed in an order of their own, so that
    rounding does not depend on the order in which they come.
    """
    order = sorted(range(len(vectors)), key=lambda row: vectors[row].tobytes())
    centred = vectors[order] - vectors[order].mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(vectors), 2))
    width = min(2, len(sizes))
    plane[order, :width] = left[:, :width] * sizes[:width]
    return plane


def _mean(values: Float64s, axis: int) -> Float64s:
    """Over what is not NaN; NaN where nothing is."""
    counts = (~np.isnan(values)).sum(axis=axis)
    means: Float64s = np.where(counts > 0, np.nansum(values, axis=axis) / np.maximum(counts, 1), np.nan)
    return means
