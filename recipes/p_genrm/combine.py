"""Eq. 8 and 9: several chains of one user, and of like users, as one score for each response."""

from __future__ import annotations

import math
from collections.abc import Sequence

Scores = Sequence[float]
SAME = 1e-9  # of the largest size among them: totals that are nearer to each other differ by rounding alone


def mean_scores(chains: Sequence[Scores | None]) -> list[float] | None:
    """The mean of the chains that are in form, by response; None without any."""
    parsed = [chain for chain in chains if chain is not None]
    return [math.fsum(totals) / len(parsed) for totals in zip(*parsed, strict=True)] if parsed else None


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
    of_each = zip(*(scores for scores, _ in known), strict=True)
    return [math.fsum(share * s for share, s in zip(shares, scores, strict=True)) for scores in of_each]


def top_of(totals: Scores) -> list[int]:
    """The responses with the highest total, in order; several: they tie."""
    limit = max(totals) - SAME * max(map(abs, totals))
    return [index for index, total in enumerate(totals) if total >= limit]
