"""Many rewards -> one score: frozen normalization and adaptive weights, and what they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np

from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.contracts import GroupMetrics, RewardShaper, artifact
from raylign.errors import Problem
from raylign.recipes.quark_medical.factors import Factors, TriFactor, condition_of
from raylign.recipes.quark_medical.reference import Reference, Scaling, statistics_problems
from raylign.recipes.quark_medical.table import (
    Bools,
    Float64s,
    Int64s,
    RewardTable,
    flat_shares,
    means,
    stds,
    table_of,
    variance_shares,
)
from raylign.records import Group


class Mode(Enum):
    """What is added up."""

    tri_factor = "tri_factor"  # r~ by adaptive weights
    equal = "equal"  # r~
    raw = "raw"  # the rewards as they are
    batch_z = "batch_z"  # z-scores within the batch
    group_z = "group_z"  # z-scores within the group, as GDPO


FROZEN = (Mode.tri_factor, Mode.equal)


class Unmeasured(Enum):
    """What a missing reward does to its sample."""

    no_score = "no_score"  # the sample leaves its group, as everywhere in raylign
    neutral = "neutral"  # the reward counts as the reference's mean, 0


class ReferenceFrozen(RewardShaper):
    """R = sum_k b_k w_k r~_k over the rewards whose weight b_k in the run is above 0; the others are only logged.

    Logged under ``map/``, of every step: ``raw_mean``, ``raw_std``, ``norm_mean``, ``norm_std``, ``share`` (of the
    variance of the summands within groups) and ``flat`` (share of groups in which the reward is the same for all), each
    ``/<reward>``; ``floored`` (rewards that the reference hardly varies in). With adaptive weights also ``weight``,
    ``weakness``, ``risk``, ``redundancy``, ``average``, ``violation``, each ``/<reward>``, and ``corr/<a>_<b>``.
    """

    @dataclass
    class Config:
        """Statistics, how they scale, and how weights move."""

        statistics: str = artifact("statistics")  # @STAGE of a `Calibrate`, or its file
        mode: Mode = Mode.tri_factor
        scaling: Scaling = field(default_factory=Scaling)
        factors: Factors = field(default_factory=Factors)
        unmeasured: Unmeasured = Unmeasured.no_score
        red_line: str = ""  # a reward of `factors.risk`: a sample below its floor gets the group's least R, less 1

        def __post_init__(self) -> None:
            if self.red_line and self.red_line not in self.factors.risk:
                raise ValueError(f"red_line={self.red_line} needs a floor: add factors.risk.{self.red_line}")
            if self.mode is Mode.raw and self.unmeasured is Unmeasured.neutral:
                raise ValueError("unmeasured=neutral: 0 is no neutral value of a raw reward; set unmeasured=no_score")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """Weights, statistics and risks must be those of the rewards of the stages that it scores."""
        findings = Findings(key)
        stages = [stage for stage in run.stages if stage.batch and run.part("shaper", stage.name).key == key]
        for stage in stages:
            weights = run.weights(stage.name)
            for name, weight in weights.items():
                why, fix = "would be paid for what it punishes", "turn the reward's sign, or set the weight to 0"
                findings.expect(weight >= 0, f"rewards.{name}.weight", weight, f"below 0, {key} {why}", fix)
            unknown = [name for name in (*config.factors.risk, *config.scaling.ranges) if name not in weights]
            fix = f"name some of {', '.join(weights)}"
            findings.expect(not unknown, "factors.risk", ", ".join(unknown), "are no rewards of this stage", fix)
            counted = [name for name, weight in weights.items() if weight > 0]
            why, fix = "there is no reward with a weight to score by", "set rewards.NAME.weight=1"
            findings.expect(bool(counted), "mode", config.mode.name, why, fix)
            gate, fix = config.red_line, f"name one of {', '.join(counted)}"
            findings.expect(not gate or gate in counted, "red_line", gate, "is no reward with a weight", fix)
            findings += _statistics_problems(key, config, run, counted)
        return findings

    def __init__(
        self, config: Config, weights: Mapping[str, float], max_tokens: int, tokenizer: Any = None, seed: int = 0
    ) -> None:
        # max_tokens, tokenizer, seed: offered to every shaper; a sum of rewards needs none
        super().__init__(config)
        self.names = tuple(name for name, weight in weights.items() if weight > 0)
        self._own = np.array([weights[name] for name in self.names])
        self.reference = (
            Reference(config.statistics, self.names, config.scaling)
            if config.statistics or config.mode in FROZEN
            else None
        )
        self.weighting = TriFactor(self.names, config.factors)

    config: Config

    def score(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with R of every sample; the averages and weights take the batch in first.

        Raises RewardError on a domain without statistics, ValueError on a reward that is not finite.
        """
        scores = self.combined(table_of(groups, self.names))
        return [
            replace(group, scores=tuple(None if np.isnan(score) else float(score) for score in scores[rows]))
            for group, rows in zip(groups, _rows(groups), strict=True)
        ]

    def combined(self, table: RewardTable) -> Float64s:
        """[S] R of every sample, NaN where it has none; see `score`."""
        if self.config.mode is Mode.tri_factor:
            assert self.reference is not None
            self.weighting.observe(condition_of(table, self.reference.normalized(table), self.config.factors))
        scores = np.where(self._scored(table), np.nansum(self.summands(table), axis=1), np.nan)
        if self.config.red_line:
            scores = _under_red_lines(scores, self._over_red_line(table), table.groups)
        return scores

    def metrics(self, groups: Sequence[Group]) -> list[GroupMetrics]:
        """What the class lists; numbers of the batch stand in every group."""
        table = table_of(groups, self.names)
        columns = {"raw_mean": means(table.raw), "raw_std": stds(table.raw)}
        columns["share"] = variance_shares(self.summands(table), table.groups)
        columns["flat"] = flat_shares(table.raw, table.groups)
        of_batch: dict[str, float] = {}
        if self.reference is not None:
            normalized = self.reference.normalized(table)
            columns |= {"norm_mean": means(normalized), "norm_std": stds(normalized)}
            of_batch["map/floored"] = float(len(self.reference.floored))
        for kind, column in columns.items():
            named = zip(self.names, column, strict=True)
            of_batch |= {f"map/{kind}/{name}": float(value) for name, value in named if not np.isnan(value)}
        if self.weighting.batches:
            of_batch |= {f"map/{name}": value for name, value in self.weighting.metrics().items()}
        return [GroupMetrics(group=of_batch) for _ in groups]

    def state_dict(self) -> dict[str, Any]:
        """Weights and averages; nothing before the first batch, and nothing where weights stand still."""
        return self.weighting.state_dict() if self.weighting.batches else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `TriFactor.load_state_dict`."""
        if state and self.config.mode is not Mode.tri_factor:
            super().load_state_dict(state)
        elif state:
            self.weighting.load_state_dict(state)

    def summands(self, table: RewardTable) -> Float64s:
        """[S, K] b_k w_k v_k, NaN where a reward has no value."""
        mode = self.config.mode
        if mode in FROZEN:
            assert self.reference is not None
            values = self.reference.normalized(table)
        elif mode is Mode.raw:
            values = table.raw
        elif mode is Mode.batch_z:
            values = z_scores(table.raw)
        else:
            values = np.full(table.raw.shape, np.nan)
            for group in np.unique(table.groups):
                rows = table.groups == group
                values[rows] = z_scores(table.raw[rows])
        weights = self.weighting.weights if mode is Mode.tri_factor else np.ones(len(self.names))
        return values * weights * self._own

    def _scored(self, table: RewardTable) -> Bools:
        """[S] whether a sample has a score: something was measured, and nothing is missing that may not be."""
        measured = ~np.isnan(table.raw)
        whole = measured | ~table.applies if self.config.unmeasured is Unmeasured.no_score else np.ones_like(measured)
        return np.asarray(whole.all(axis=1) & measured.any(axis=1))

    def _over_red_line(self, table: RewardTable) -> Bools:
        if self.config.red_line not in self.names:
            return np.zeros(len(table.raw), bool)
        column = table.raw[:, self.names.index(self.config.red_line)]
        return np.asarray(column < self.config.factors.risk[self.config.red_line].floor)


def z_scores(values: Float64s) -> Float64s:
    """[S, K] each column less its mean, by its deviation; 0 where it does not vary."""
    deviation = stds(values)
    varies = deviation > 1e-9 * np.maximum(1.0, np.abs(means(values)))
    return np.asarray((values - means(values)) * np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0))


def _under_red_lines(scores: Float64s, over: Bools, groups: Int64s) -> Float64s:
    """[S] the scores, where a sample is over a red line the least of its group less 1."""
    result = scores.copy()
    for group in np.unique(groups):
        rows = groups == group
        known = scores[rows & ~np.isnan(scores)]
        if len(known):
            result[rows & over & ~np.isnan(scores)] = known.min() - 1.0
    return result


def _rows(groups: Sequence[Group]) -> list[slice]:
    ends = np.cumsum([len(group.trajectories) for group in groups]).tolist()
    return [slice(end - len(group.trajectories), end) for group, end in zip(groups, ends, strict=True)]


def _statistics_problems(key: str, config: ReferenceFrozen.Config, run: Run, counted: Sequence[str]) -> list[Problem]:
    """A file is read, a stage asked which rewards it measures."""
    place, named = f"{key}.statistics", config.statistics
    if not named:
        why, fix = f"{config.mode.name} needs the statistics of the reference", "set it to @STAGE of a Calibrate stage"
        return [Problem(key=place, value="", why=why, fix=fix)] if config.mode in FROZEN else []
    if not named.startswith("@"):
        return statistics_problems(place, named, counted)
    stage = named[1:].partition("/")[0]
    measured = run.weights(stage)
    if f"stages.{stage}" not in run.parts or all(name in measured for name in counted):
        return []  # that there is no such stage is told by whoever resolves references
    why = f"measures {', '.join(sorted(measured))}; the rewards with a weight are {', '.join(sorted(counted))}"
    fix = f"add them to stages.{stage}.weights, or give the others weight 0"
    return [Problem(key=place, value=named, why=why, fix=fix)]
