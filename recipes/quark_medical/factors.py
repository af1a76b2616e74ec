"""Tri-Factor Adaptive Dynamic Weighting: which reward lags, which is violated, which says what others say.

    weakness    F_k = exp(-(m_k - mean_j m_j) / T)              m: average of r~ over batches
    risk        G_k = 1 + beta_k min(1, v_k / v_max)            v: average share of samples with r_k below its floor
    redundancy  H_k = 1 / (1 + sum_{j != k} max(0, c_kj))       c: average correlation of r~ within groups
    w_k <- ema w_k + (1 - ema) K F_k G_k H_k / sum_j F_j G_j H_j, within [low, high]

Averages are exponential over the batches in which they could be measured, and begin with the first value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from raylign.errors import CheckpointError
from raylign.recipes.quark_medical.table import Float64s, RewardTable, correlations, means


class Factor(Enum):
    """What a weight goes by."""

    weakness = "weakness"
    risk = "risk"
    redundancy = "redundancy"


@dataclass
class Risk:
    """Of one reward."""

    floor: float = 0.0  # a sample with less violates it
    beta: float = 4.0

    def __post_init__(self) -> None:
        if self.beta < 0:
            raise ValueError(f"beta={self.beta}: set it to 0 or more")


@dataclass
class Factors:
    """Every choice that changes a weight; the values are [inferred]."""

    use: list[Factor] = field(default_factory=lambda: list(Factor))  # the others are 1
    temperature: float = 1.0  # T
    risk: dict[str, Risk] = field(default_factory=dict)  # rewards that can be violated; the others have beta 0
    v_max: float = 0.05
    ema: float = 0.9  # share of the old value in averages and weights
    low: float = 0.1
    high: float = 5.0
    every: int = 1  # batches between two moves of the weights

    def __post_init__(self) -> None:
        if self.temperature < 0.05:
            raise ValueError(f"temperature={self.temperature}: set it to 0.05 or more")
        if not 0 < self.v_max <= 1:
            raise ValueError(f"v_max={self.v_max} is a share: set it above 0 and up to 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema={self.ema}: set it from 0 to below 1, so that weights move")
        if not 0 < self.low <= 1 <= self.high:
            raise ValueError(f"low={self.low}, high={self.high}: weights begin at 1, so set 0 < low <= 1 <= high")
        if self.every < 1:
            raise ValueError(f"every={self.every}: set it to 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a batch, or an average of batches, says of K rewards; NaN where nobody could say."""

    normalized: Float64s  # [K] m
    violations: Float64s  # [K] v
    correlations: Float64s  # [K, K] c


def condition_of(table: RewardTable, normalized: Float64s, factors: Factors) -> Condition:
    """Of one batch. normalized: [S, K] r~ of the table."""
    floors = np.array([factors.risk[name].floor if name in factors.risk else np.nan for name in table.names])
    below = np.where(np.isnan(table.raw + floors), np.nan, table.raw < floors)
    return Condition(
        normalized=means(normalized),
        violations=means(below),
        correlations=correlations(normalized, table.groups),
    )


def factors_of(names: Sequence[str], condition: Condition, factors: Factors) -> dict[Factor, Float64s]:
    """[K] of each factor; 1 for a reward that was never measured, and for factors that are not used."""
    m, v = condition.normalized, np.nan_to_num(condition.violations)
    known = m[~np.isnan(m)]
    lag = np.nan_to_num(m - (known.mean() if len(known) else 0.0))
    beta = np.array([factors.risk[name].beta if name in factors.risk else 0.0 for name in names])
    positive = np.maximum(condition.correlations, 0.0)
    values = {
        Factor.weakness: np.exp(-lag / factors.temperature),
        Factor.risk: 1.0 + beta * np.minimum(1.0, v / factors.v_max),
        Factor.redundancy: 1.0 / (1.0 + positive.sum(axis=1) - positive.diagonal()),
    }
    return {factor: value if factor in factors.use else np.ones(len(names)) for factor, value in values.items()}


def target_weights(values: Mapping[Factor, Float64s]) -> Float64s:
    """[K] K F G H / sum F G H."""
    product = np.prod(list(values.values()), axis=0)
    return np.asarray(len(product) * product / product.sum())


class TriFactor:
    """The weights of K rewards, and the averages behind them, batch by batch."""

    def __init__(self, names: Sequence[str], factors: Factors) -> None:
        self.names, self.factors = tuple(names), factors
        count = len(self.names)
        self.batches = 0
        self.weights = np.ones(count)
        self.condition = Condition(
            normalized=np.full(count, np.nan),
            violations=np.full(count, np.nan),
            correlations=np.full((count, count), np.nan),
        )

    @property
    def values(self) -> dict[Factor, Float64s]:
        """[K] of each factor, of the averages."""
        known = np.nan_to_num(self.condition.correlations)
        condition = Condition(
            normalized=self.condition.normalized, violations=self.condition.violations, correlations=known
        )
        return factors_of(self.names, condition, self.factors)

    def observe(self, condition: Condition) -> None:
        """Take a batch into the averages; every so many, move the weights."""
        old, ema = self.condition, self.factors.ema
        self.condition = Condition(
            normalized=_averaged(old.normalized, condition.normalized, ema),
            violations=_averaged(old.violations, condition.violations, ema),
            correlations=_averaged(old.correlations, condition.correlations, ema),
        )
        self.batches += 1
        if self.batches % self.factors.every == 0:
            moved = ema * self.weights + (1 - ema) * target_weights(self.values)
            self.weights = np.clip(moved, self.factors.low, self.factors.high)

    def metrics(self) -> dict[str, float]:
        """Weights, factors and averages by reward."""
        metrics: dict[str, float] = {}
        columns = {"weight": self.weights, "average": self.condition.normalized, "violation": self.condition.violations}
        columns |= {factor.value: value for factor, value in self.values.items()}
        for kind, column in columns.items():
            metrics |= {f"{kind}/{name}": float(value) for name, value in zip(self.names, column, strict=True)}
        for i, one in enumerate(self.names):
            for j, other in enumerate(self.names[:i]):
                metrics[f"corr/{other}_{one}"] = float(self.condition.correlations[i, j])
        return {name: value for name, value in metrics.items() if not math.isnan(value)}

    def state_dict(self) -> dict[str, Any]:
        """JSON types; null for what was never measured."""
        return {
            "names": list(self.names),
            "batches": self.batches,
            "weights": self.weights.tolist(),
            "normalized": _as_json(self.condition.normalized),
            "violations": _as_json(self.condition.violations),
            "correlations": [_as_json(row) for row in self.condition.correlations],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`. Raises CheckpointError on one of other rewards, and on weights that are none."""
        if list(state["names"]) != list(self.names):
            raise CheckpointError(
                f"the checkpoint has weights of {', '.join(state['names'])}, and the run's rewards are "
                f"{', '.join(self.names)}; fix: resume with the rewards that it was made with"
            )
        weights, count = np.array(state["weights"], np.float64), len(self.names)
        if weights.shape != (count,) or not np.isfinite(weights).all():
            raise CheckpointError(
                f"the checkpoint's weights are {state['weights']}; fix: remove it, so that an older one is taken"
            )
        self.batches, self.weights = int(state["batches"]), weights
        self.condition = Condition(
            normalized=np.array(state["normalized"], np.float64),
            violations=np.array(state["violations"], np.float64),
            correlations=np.array(state["correlations"], np.float64).reshape(count, count),
        )


def _averaged(old: Float64s, new: Float64s, ema: float) -> Float64s:
    """The average after one more value; where only one of the two is there, that one."""
    both = ema * old + (1 - ema) * new
    return np.where(np.isnan(new), old, np.where(np.isnan(old), new, both))


def _as_json(values: Float64s) -> list[float | None]:
    return [None if math.isnan(value) else float(value) for value in values]
