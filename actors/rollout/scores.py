"""Scores of one turn for searches, from the reward and flags of its environment. A path's score is their sum.

Raw rewards tie nearly everywhere in an environment that pays only at its end, and a search that cannot tell its
candidates apart samples plainly; such an environment needs a score of its own. The scores of FrozenLake and WebShop
that TSR (arXiv:2602.11767) used are not published: their formulas here are inferred.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from raylign.contracts import Part
from raylign.records import Call


class TurnScorer(Part):
    """Scores one turn."""

    what = "a score of turns"

    @abstractmethod
    def score(self, call: Call) -> float:
        """How well a turn went. Raises ValueError where the environment does not say what is needed."""


class TurnReward(TurnScorer):
    """The turn's own reward; with `per_action` divided by the number of actions.

    An environment that charges for every action makes a sum favour short blocks; the mean does not. `invalid` is the
    score of a turn without any legal action (flag ``actions`` 0), None: its reward as it is. TSR's released code: -1e6.
    """

    @dataclass
    class Config:
        """Where the reward is read and how it is scaled."""

        flag: str = ""  # a flag that holds it instead of the turn's reward, e.g. game_reward: without format penalty
        per_action: bool = False
        invalid: float | None = None

    def __init__(self, config: Config) -> None:
        self.config = config

    def score(self, call: Call) -> float:
        """See `TurnScorer.score`."""
        config = self.config
        actions = int(_flag(call, "actions")) if config.per_action or config.invalid is not None else 1
        if config.invalid is not None and not actions:
            return config.invalid
        reward = _flag(call, config.flag) if config.flag else _reward(call)
        return reward / max(actions, 1) if config.per_action else reward


class RiskAware(TurnScorer):
    """FrozenLake: reward + nearer * (decrease of the distance to the goal) - risk * P(a hole on the way) [inferred].

    The distance is in moves that avoid holes (flags ``distance_before`` and ``distance_after``); a turn that ended in a
    hole came no nearer, and its risk was 1 (else flag ``fall_probability``).
    """

    @dataclass
    class Config:
        """The digest's inferred weights."""

        nearer: float = 0.1
        risk: float = 0.5

    def __init__(self, config: Config) -> None:
        self.config = config

    def score(self, call: Call) -> float:
        """See `TurnScorer.score`."""
        if call.flags.get("distance_after", 0) is None:
            return _reward(call) - self.config.risk
        nearer = _flag(call, "distance_before") - _flag(call, "distance_after")
        return _reward(call) + self.config.nearer * nearer - self.config.risk * _flag(call, "fall_probability")


class ShopProgress(TurnScorer):
    """WebShop: reward + overlap * (share of the goal's words shown) + option * (a new option chosen) [inferred]."""

    @dataclass
    class Config:
        """The digest's inferred weights."""

        overlap: float = 0.1
        option: float = 0.05

    def __init__(self, config: Config) -> None:
        self.config = config

    def score(self, call: Call) -> float:
        """See `TurnScorer.score`."""
        progress = self.config.overlap * _flag(call, "goal_overlap") + self.config.option * _flag(call, "new_option")
        return _reward(call) + progress


def _reward(call: Call) -> float:
    if call.reward is None:
        raise ValueError("the environment gave the turn no reward, so there is nothing to score it by")
    return call.reward


def _flag(call: Call, name: str) -> float:
    if call.flags.get(name) is None:
        known = ", ".join(call.flags) or "none"
        raise ValueError(f"the turn has no flag {name} to score it by, choose another scorer; flags: {known}")
    return float(call.flags[name])
