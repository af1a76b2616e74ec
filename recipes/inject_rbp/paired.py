"""The gain of one arm over another on the same questions, with an interval by resampling the questions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SEED = 2602_12013  # of the bootstrap: the same scores give the same interval


def gain_over(
    here: Mapping[str, float], there: Mapping[str, float], resamples: int, interval: float
) -> dict[str, float]:
    """``gain``, ``gain_low``, ``gain_high``, and ``paired``, the share of the questions that both arms have scores of.

    here, there: mean score of each question. The bounds are percentiles of the mean difference over resampled
    questions; nothing but ``paired`` where no question is in both.
    """
    names = [name for name in here if name in there]
    metrics = {"paired": len(names) / max(1, len(set(here) | set(there)))}
    if not names:
        return metrics
    differences = np.array([here[name] - there[name] for name in names])
    rng = np.random.default_rng(SEED)
    means = [float(rng.choice(differences, len(differences)).mean()) for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - interval) / 2, (1 + interval) / 2])
    return metrics | {"gain": float(differences.mean()), "gain_low": float(low), "gain_high": float(high)}
