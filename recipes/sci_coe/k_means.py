"""Lloyd's k-means with k-means++ seeds on a handful of points, all restarts at once.

Works on inner products alone: a centre is a mean of points, so its distances follow from the Gram matrix, and the
number of dimensions costs nothing after that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]
ITERATIONS = 64
NEAR = 1e-12  # squared distance below which two points are the same one


def k_means(points: Float64s, clusters: int, seed: int, restarts: int = 8) -> Int64s:
    """[M] number of each point's cluster, of the restart whose summed squared distances are least.

    points: [M, D]. Fewer clusters than asked for are in use where there are fewer different points. Neither the order
    of the points nor chance beside the seed changes which points stand together. Raises ValueError on clusters < 1.
    """
    if clusters < 1:
        raise ValueError(f"clusters={clusters}: set it to 1 or more")
    order = np.array(sorted(range(len(points)), key=lambda row: points[row].tobytes()), np.int64)
    centred = points[order] - points[order].mean(axis=0)
    gram = centred @ centred.T
    rng = np.random.default_rng(seed)
    centres = _first_centres(gram, min(clusters, len(points)), restarts, rng)
    nearest = np.full((restarts, len(points)), -1)
    for _ in range(ITERATIONS):
        squared = _squared(gram, centres)
        before, nearest = nearest, squared.argmin(axis=2)
        if np.array_equal(before, nearest):
            break
        centres = _means(nearest, centres)
    best = int(squared.min(axis=2).sum(axis=1).argmin())
    result = np.empty(len(points), np.int64)
    result[order] = nearest[best]
    return result


def _first_centres(gram: Float64s, clusters: int, restarts: int, rng: np.random.Generator) -> Float64s:
    """[R, K, M] one point for each centre: the first at random, each further one by its squared distance to those."""
    points = len(gram)
    chosen = rng.integers(points, size=restarts)
    centres = [np.eye(points)[chosen]]
    for _ in range(1, clusters):
        squared = _squared(gram, np.stack(centres, axis=1)).min(axis=2)
        squared[squared < NEAR] = 0.0
        running = np.cumsum(squared, axis=1)
        drawn = rng.random(restarts)[:, None] * running[:, -1:]
        chosen = np.minimum((running <= drawn).sum(axis=1), points - 1)
        centres.append(np.eye(points)[chosen])
    return np.stack(centres, axis=1)


def _squared(gram: Float64s, centres: Float64s) -> Float64s:
    """[R, M, K] squared distances. centres: [R, K, M] weights of the points, adding up to 1."""
    across = centres @ gram  # [R, K, M]
    own = (across * centres).sum(axis=2)
    return np.maximum(np.diag(gram)[None, :, None] - 2 * across.transpose(0, 2, 1) + own[:, None, :], 0.0)


def _means(nearest: Int64s, centres: Float64s) -> Float64s:
    """The centres of the points nearest to each; one without any stays where it is."""
    members = nearest[:, None, :] == np.arange(centres.shape[1])[None, :, None]
    sizes = members.sum(axis=2, keepdims=True)
    return np.where(sizes > 0, members / np.maximum(sizes, 1), centres)
