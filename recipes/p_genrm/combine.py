"""Eq. 8 and 9: several chains of one user, and of like users, as one score for each response."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Scores = Sequence[float]


def mean_scores(chains: Sequence[Scores | None]) -> list[float] | None:
    """The mean of the chains that are in form, by response; None without any."""
    parsed = [chain for chain in chains if chain is not None]
    return np.mean(np.array(parsed, np.float64), axis=0).tolist() if parsed else None


def combined(own: Scores | None, neighbours: Scores | None, weights: tuple[float, float]) -> list[float] | None:
    """The weighted mean of the channels that returned something, their weights adding up to 1; None without any.

    With both it is half the sum of eq. 9, which orders the responses alike, on the scale of a chain's totals. A channel
    of weight 0 counts where it is the only one.
    """
    known = [(scores, weight) for scores, weight in zip((own, neighbours), weights, strict=True) if scores is not None]
    total = sum(weight for _, weight in known)
    if not known:
        return None
    shares = [weight / total if total else 1 / len(known) for _, weight in known]
    sums = np.zeros(len(known[0][0]))
    for (scores, _), share in zip(known, shares, strict=True):
        sums += share * np.asarray(scores, np.float64)
    return sums.tolist()
