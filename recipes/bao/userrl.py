"""The estimators of UserRL (SalesforceAIResearch/UserRL, ``grpo_multiturn``), which BAO is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.errors import Problem
from raylign.objectives.advantage.base import rewards_differ
from raylign.objectives.advantage.turn import Level, TurnAdvantage
from raylign.objectives.shaping import WeightedSum
from raylign.recipes.bao.turns import Float64s, to_go
from raylign.records import Group, Trajectory


class Score(Enum):
    """S_i of a trajectory."""

    r2g = "r2g"  # sum_t gamma^t r_t
    sum = "sum"  # called so in the code: the mean reward of a turn


class Credit(Enum):
    """Credit of turn t before the row is rescaled."""

    equalized = "equalized"  # 1: the plain GRPO advantage
    r2g = "r2g"  # sum over k >= t of gamma^(k - t) r_k
    em = "em"  # 0.5 + 0.5 (1 - e^(-2 r_t)) / (1 - e^-2)


class UserRlCredits(WeightedSum):
    """Ready advantages of every turn, for `TurnAdvantage` at level step: z_i = (S_i - mean) / (std + 1e-6) over the
    group (a group of one: mean 0, std 1), times the credit of the turn, rescaled so that the mean over the row's tokens
    of non-zero credit is z_i. A row whose credits sum to 0 is 0. Rescaling explodes where credits nearly cancel, as
    in the released code.
    """

    @dataclass
    class Config(WeightedSum.Config):
        """The two estimators, and the discount of both."""

        trajectory: Score = Score.r2g
        turns: Credit = Credit.equalized
        gamma: float = 0.8

        def __post_init__(self) -> None:
            super().__post_init__()
            if not 0 <= self.gamma <= 1:
                raise ValueError(f"gamma is {self.gamma}, set it between 0 and 1")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """Its turn scores are advantages already."""
        findings = Findings(key)
        findings += super().problems(key, config, run)
        place = f"{key.removesuffix('.shaper')}.advantage"
        advantage = run.parts.get(place) or run.parts.get("advantage")
        if advantage is None:
            return findings
        own = issubclass(advantage.cls, TurnAdvantage)
        if not own or advantage.config.level is not Level.step:
            given = advantage.config.level.name if own else advantage.cls.__name__
            why, fix = f"would compare what {key} has compared already", f"set {advantage.key}.level=step std=none"
            findings.append(Problem(key=f"{advantage.key}.level", value=given, why=why, fix=fix))
        return findings

    config: Config

    def _scored(self, group: Group) -> Group:
        known = [index for index, score in enumerate(self._scores(group)) if score is not None]
        rewards = {index: _rewards(group.trajectories[index]) for index in known}
        scores: list[float | None] = [None] * len(group.trajectories)
        by_turn: list[np.ndarray | None] = [None] * len(group.trajectories)
        for index in known:
            scores[index] = self.score_of(rewards[index])
        normalised = standardised(np.array([scores[index] for index in known], np.float64))
        for index, z in zip(known, normalised, strict=True):
            tokens = np.array([len(call.token_ids) for call in group.trajectories[index].calls], np.float64)
            by_turn[index] = rescaled(self.credits_of(rewards[index]), tokens, float(z)).astype(np.float32)
        return replace(group, scores=tuple(scores), call_scores=tuple(by_turn))

    def score_of(self, rewards: Float64s) -> float:
        """S_i."""
        if self.config.trajectory is Score.sum:
            return float(rewards.mean())
        return float(to_go(rewards, self.config.gamma)[0])

    def credits_of(self, rewards: Float64s) -> Float64s:
        """[turns]"""
        if self.config.turns is Credit.equalized:
            return np.ones(len(rewards))
        if self.config.turns is Credit.r2g:
            return to_go(rewards, self.config.gamma)
        return 0.5 + 0.5 * (1 - np.exp(-2 * rewards)) / (1 - np.exp(-2.0))


def standardised(scores: Float64s) -> Float64s:
    """[G] z of the scores of a group; 0 where all score the same."""
    if len(scores) == 1:
        return scores / (1 + 1e-6)
    if not len(scores) or not rewards_differ(scores):
        return np.zeros(len(scores))
    normalised: Float64s = (scores - scores.mean()) / (scores.std(ddof=1) + 1e-6)
    return normalised


def rescaled(credits: Float64s, tokens: Float64s, z: float) -> Float64s:
    """[turns] credits times a number, so that their mean over the tokens of turns with non-zero credit is z."""
    total, counted = float(credits @ tokens), float(tokens[credits != 0].sum())
    if not counted or abs(total) < 1e-12:
        return np.zeros(len(credits))
    return credits * (z * counted / total)


def _rewards(trajectory: Trajectory) -> Float64s:
    return np.array([call.reward or 0.0 for call in trajectory.calls], np.float64)
