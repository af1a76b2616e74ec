"""Behaviour regularisation: the shaped reward of every turn, and the scores that turn-level advantages compare."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.errors import Problem
from raylign.objectives.advantage.turn import Level, TurnAdvantage
from raylign.objectives.shaping import WeightedSum
from raylign.recipes.bao.figures import behaviour_figures, judge_figures
from raylign.recipes.bao.turns import Episode, FlagNames, Float64s, episode_of, penalties, to_go
from raylign.records import Group


class BehaviourShaper(WeightedSum):
    """r'_t of the card. Score of a trajectory: the weighted sum of its rewards less all penalties; scores of its turns:
    R2G'_t, for `TurnAdvantage` at level turn. What the rewards give beyond the environment's own r_t stands at the last
    turn.

    Group metrics: ``bao/…`` (see `behaviour_figures`) and ``judge/…`` beside those of the sum.
    """

    @dataclass
    class Config(WeightedSum.Config):
        """Penalties, the discount, and the names of the flags that turns carry."""

        answer: float = 0.2  # lambda_ans [inferred]: of a turn that involves the user right after one that did
        think: float = 0.1  # lambda_think [inferred]: times (T - T') / T' of an episode that failed before its budget
        effort: float = 0.0  # w: of every turn that involves the user
        gamma: float = 0.8  # of R2G'
        cap: float = 1.0  # the most that `think` costs an episode [inferred]
        user: str = "user"  # flag of a turn that involves the user; empty: none does
        valid: str = "valid"  # flag of a turn with an act of the game
        success: str = "success"  # flag of the last turn: solved
        budget: int = 0  # T in turns; 0: the flag `budget`

        def __post_init__(self) -> None:
            super().__post_init__()
            for name in ("answer", "think", "effort", "cap", "budget"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name} is {getattr(self, name)}, set it to 0 or more: penalties are subtracted")
            if not 0 <= self.gamma <= 1:
                raise ValueError(f"gamma is {self.gamma}, set it between 0 and 1")
            if not self.user and (self.answer or self.effort):
                raise ValueError(f"user is empty, so answer={self.answer} and effort={self.effort} must be 0")

        @property
        def flags(self) -> FlagNames:
            """The names of the flags."""
            return FlagNames(user=self.user, valid=self.valid, success=self.success)

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """Turn scores are returns to go, not advantages."""
        findings = Findings(key)
        findings += super().problems(key, config, run)
        place = f"{key.removesuffix('.shaper')}.advantage"
        advantage = run.parts.get(place) or run.parts.get("advantage")
        if advantage and issubclass(advantage.cls, TurnAdvantage) and advantage.config.level is Level.step:
            why, fix = f"takes scores for advantages, and {key} gives returns to go", f"set {advantage.key}.level=turn"
            findings.append(Problem(key=f"{advantage.key}.level", value="step", why=why, fix=fix))
        return findings

    config: Config

    def shaped(self, episode: Episode, extra: float = 0.0) -> Float64s:
        """[turns] r'_t. extra: added at the last turn."""
        config = self.config
        costs = penalties(episode, answer=config.answer, think=config.think, effort=config.effort, cap=config.cap)
        rewards = episode.rewards - sum(costs)
        rewards[-1:] += extra
        return rewards

    def _scored(self, group: Group) -> Group:
        scores: list[float | None] = []
        by_turn: list[np.ndarray | None] = []
        for trajectory, score in zip(group.trajectories, self._scores(group), strict=True):
            if score is None or not trajectory.calls:
                scores.append(None)
                by_turn.append(None)
                continue
            episode = episode_of(trajectory, self.config.flags, self.config.budget)
            rewards = self.shaped(episode, score - float(episode.rewards.sum()))
            scores.append(float(rewards.sum()))
            by_turn.append(to_go(rewards, self.config.gamma).astype(np.float32))
        return replace(group, scores=tuple(scores), call_scores=tuple(by_turn))

    def _metrics(self, group: Group) -> dict[str, float]:
        counted = [t for t, score in zip(group.trajectories, self._scores(group), strict=True) if score is not None]
        episodes = [episode_of(t, self.config.flags, self.config.budget) for t in counted if t.calls]
        costs = [self._costs(episode) for episode in episodes]
        metrics = super()._metrics(group) | behaviour_figures(counted, episodes) | judge_figures(group.trajectories)
        if costs:
            metrics |= {f"bao/penalty_{name}": float(np.mean([cost[name] for cost in costs])) for name in costs[0]}
        return metrics

    def _costs(self, episode: Episode) -> dict[str, float]:
        config = self.config
        costs = penalties(episode, answer=config.answer, think=config.think, effort=config.effort, cap=config.cap)
        return {name: float(cost.sum()) for name, cost in zip(("effort", "ask", "think"), costs, strict=True)}
