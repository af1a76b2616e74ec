"""Which strategies stand together: scikit-learn's K-means, made a function of the points and the seed alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]
SEEDS = 2**32  # of NumPy's older generator, which scikit-learn takes


def k_means(points: Float64s, clusters: int, seed: int, restarts: int = 8) -> Int64s:
    """[M] number of each point's cluster, of the restart whose summed squared distances are least.

    points: [M, D]. Fewer clusters than asked for are in use where there are fewer different points. The order of the
    points does not change which points stand together. Raises ValueError on clusters < 1.
    """
    order = np.array(sorted(range(len(points)), key=lambda row: points[row].tobytes()), np.int64)
    different = len(np.unique(points, axis=0))
    model = KMeans(min(clusters, different), n_init=restarts, random_state=seed % SEEDS)
    labels = np.empty(len(points), np.int64)
    labels[order] = model.fit_predict(points[order])
    return labels
