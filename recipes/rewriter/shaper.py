"""What is logged of a group of rewrites; their scores are the weighted sum of their rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raylign.objectives.shaping import WeightedSum
from raylign.recipes.rewriter.reward import TERMS
from raylign.records import Group, Value


class RewriteShaper(WeightedSum):
    """`WeightedSum`, and per group, of the first reward that judged it as `RewriteReward` does (``rewriter/…``):

    ``passed`` (mean t), ``answer``, ``reasoning`` (mean v_ans; mean v_rea of those asked), ``m``, ``m_below_2``, and
    ``m/<number>`` (1 where m is that, so that its means are the distribution of m), ``nll`` (mean l over S+) beside
    ``nll_expert``, ``not_finite`` (share of S+ without a finite l), ``spread`` (D of S+), ``distribution``,
    ``diversity`` (means of r_dist and r_div over S+, where m is 1 or more) and their ``…_std``, and where
    rewards differ ``share/gate``, ``share/distribution``, ``share/diversity``: cov(term, r) / var(r), in all 1.
    """

    @dataclass
    class Config(WeightedSum.Config):
        """No more settings."""

    def _metrics(self, group: Group) -> dict[str, float]:
        return super()._metrics(group) | rewriting_metrics(group, list(self.weights))


def rewriting_metrics(group: Group, rewards: Sequence[str]) -> dict[str, float]:
    """See `RewriteShaper`. rewards: names, of which the first that judged the whole group counts."""
    for name in rewards:
        values = [trajectory.rewards.get(name) for trajectory in group.trajectories]
        details = [dict(value.details) for value in values if isinstance(value, Value) and "paid" in value.details]
        if details and len(details) == len(values):
            own = _of_gate(details) | _of_passing(details) | _shares(details)
            return {f"rewriter/{metric}": value for metric, value in own.items()}
    return {}


def _of_gate(details: Sequence[dict[str, Any]]) -> dict[str, float]:
    group = details[0]["group"]
    m = int(group["passing"])
    metrics = {"passed": m / len(details), "m": float(m), "m_below_2": float(m < 2), "spread": group["spread"]}
    metrics |= {f"m/{number}": float(number == m) for number in range(len(details) + 1)}
    for name in ("answer", "reasoning"):
        given = [detail[name] for detail in details if name in detail]
        if given:
            metrics[name] = float(np.mean(given))
    if group["expert_nll"] is not None:
        metrics["nll_expert"] = group["expert_nll"]
    return metrics


def _of_passing(details: Sequence[dict[str, Any]]) -> dict[str, float]:
    passing = [detail for detail in details if detail["passed"]]
    if not passing:
        return {}
    losses = [detail["nll"] for detail in passing if detail["nll"] is not None]
    metrics = {"not_finite": 1.0 - len(losses) / len(passing)}
    if losses:
        metrics["nll"] = float(np.mean(losses))
    for name in ("distribution", "diversity"):
        values = [detail[name] for detail in passing]
        metrics |= {name: float(np.mean(values)), f"{name}_std": float(np.std(values))}
    return metrics


def _shares(details: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of the variance of r within the group."""
    paid = np.array([[detail["paid"][term] for term in TERMS] for detail in details], np.float64)
    centred = paid - paid.mean(axis=0)
    total = centred.sum(axis=1)
    variance = float(total @ total)
    if np.ptp(paid.sum(axis=1)) < 1e-9:
        return {}
    return {f"share/{term}": float(column @ total) / variance for term, column in zip(TERMS, centred.T, strict=True)}
