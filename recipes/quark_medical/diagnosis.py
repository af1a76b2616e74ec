"""From metric to diagnosis to weight: an evaluation's table of every reward, the weakest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raylign.config.resolve import Run
from raylign.contracts import Measure, artifact
from raylign.errors import Problem
from raylign.recipes.quark_medical.factors import Factor, Factors, condition_of, factors_of, target_weights
from raylign.recipes.quark_medical.reference import Reference, Scaling, read_statistics, statistics_problems
from raylign.recipes.quark_medical.table import Float64s, RewardTable, means, table_of
from raylign.records import Group, Value

LOST = "lost"  # among a reward's details: names of what took points off
SLIGHT = 0.05  # a factor nearer to 1 explains nothing


class Diagnosis(Measure):
    """A row for each reward that the evaluation asked: where it stands, why, and the weight that follows.

    ============  ===================================================================================
    metric        ``mean``, ``reference`` (the calibrated mean), ``normalized`` (r~), ``violation``
    attribution   ``attribution`` (the factor farthest from 1: ``weakness``, or ``ahead`` where it lowers
                  the weight, ``risk``, ``redundancy``, ``none``), ``domain`` (where r~ is lowest),
                  ``lost`` (what took points off most often) and ``lost_share`` (of the samples),
                  ``copies`` (the reward that it correlates with most)
    reward        ``weakness``, ``risk``, ``redundancy``, ``weight``: towards which training moves the
                  reward's weight where a policy stands as this one does
    ============  ===================================================================================

    All follow from the evaluated samples and the statistics: a table does not depend on how training came here. What
    correlates is seen within prompts: with one sample of each, nothing is redundant.
    Metrics: ``<reward>/normalized``, ``<reward>/weight``, and ``least``, the lowest r~ of all rewards.
    """

    @dataclass
    class Config:
        """The shaper's statistics, scaling and factors, and the categories of the alignment matrix."""

        statistics: str = artifact("statistics")  # @STAGE of a `Calibrate`, or its file
        categories: dict[str, list[str]] = field(default_factory=dict)  # name -> rewards; empty: all, of no category
        scaling: Scaling = field(default_factory=Scaling)
        factors: Factors = field(default_factory=Factors)

    config: Config

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """Statistics and categories must be there."""
        named, rewards = config.statistics, [name for names in config.categories.values() for name in names]
        if unknown := [name for name in rewards if name not in run.config.rewards]:
            why, fix = "are no rewards of this run", f"name some of {', '.join(run.config.rewards)}"
            return [Problem(key=f"{key}.categories", value=", ".join(unknown), why=why, fix=fix)]
        if not named:
            why, fix = "nothing to compare with", "set it to @STAGE of a Calibrate stage"
            return [Problem(key=f"{key}.statistics", value="", why=why, fix=fix)]
        return [] if named.startswith("@") else statistics_problems(f"{key}.statistics", named, rewards)

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """See the class; nothing of rewards that were not measured."""
        rows = self.table(groups)
        named = {f"{row['reward']}/{kind}": row[kind] for row in rows for kind in ("normalized", "weight")}
        return named | ({"least": rows[0]["normalized"]} if rows else {})

    def table(self, groups: Sequence[Group]) -> list[Mapping[str, Any]]:
        """See the class; the weakest reward first."""
        category = {name: category for category, names in self.config.categories.items() for name in names}
        every = list(category or read_statistics(self.config.statistics))
        asked = table_of(groups, every)
        names = [name for name, mean in zip(every, means(asked.raw), strict=True) if not np.isnan(mean)]
        if not names:
            return []
        table = table_of(groups, names)
        reference = Reference(self.config.statistics, names, self.config.scaling)
        normalized = reference.normalized(table)
        condition = condition_of(table, normalized, self.config.factors)
        values = factors_of(names, condition, self.config.factors)
        weights = np.clip(target_weights(values), self.config.factors.low, self.config.factors.high)
        rows: list[Mapping[str, Any]] = []
        for k in np.argsort(condition.normalized, kind="stable"):
            rows.append(
                {
                    "category": category.get(names[k], ""),
                    "reward": names[k],
                    "mean": float(means(table.raw)[k]),
                    "reference": reference.whole[names[k]].mean,
                    "normalized": float(condition.normalized[k]),
                    "violation": float(np.nan_to_num(condition.violations[k])),
                    "attribution": attribution({factor: float(value[k]) for factor, value in values.items()}),
                    "domain": _weakest_domain(table, normalized[:, k]),
                    **_lost(groups, names[k]),
                    "copies": _copied(names, condition.correlations, int(k)),
                    **{factor.value: float(value[k]) for factor, value in values.items()},
                    "weight": float(weights[k]),
                }
            )
        return rows


def attribution(values: Mapping[Factor, float]) -> str:
    """The factor that moves a weight most; ``ahead`` for weakness that lowers it, ``none`` for next to nothing."""
    moved = {factor: abs(float(np.log(value))) for factor, value in values.items()}
    most = max(moved, key=lambda factor: moved[factor])
    if moved[most] <= np.log1p(SLIGHT):
        return "none"
    return "ahead" if most is Factor.weakness and values[most] < 1 else most.value


def _weakest_domain(table: RewardTable, normalized: Float64s) -> str:
    """Empty where all prompts are of one domain."""
    by_domain: dict[str, list[float]] = {}
    for group, value in zip(table.groups, normalized, strict=True):
        if not np.isnan(value):
            by_domain.setdefault(table.domains[group], []).append(float(value))
    return min(by_domain, key=lambda name: float(np.mean(by_domain[name]))) if len(by_domain) > 1 else ""


def _lost(groups: Sequence[Group], name: str) -> dict[str, Any]:
    """What took points off most often, and in which share of the measured samples."""
    values = [trajectory.rewards.get(name) for group in groups for trajectory in group.trajectories]
    measured = [value for value in values if isinstance(value, Value)]
    counts = Counter(item for value in measured for item in dict.fromkeys(value.details.get(LOST, ())))
    if not counts:
        return {"lost": "", "lost_share": 0.0}
    item, count = min(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return {"lost": item, "lost_share": count / len(measured)}


def _copied(names: Sequence[str], correlations: Float64s, k: int) -> str:
    """The other reward that says most of the same; empty where none does."""
    others = [(float(correlations[k, j]), name) for j, name in enumerate(names) if j != k and correlations[k, j] > 0]
    return max(others)[1] if others else ""
