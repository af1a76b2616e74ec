"""What an episode earned from its own environment, as a reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from raylign.contracts import RewardFunction
from raylign.records import Prompt, Trajectory, Value


class Earned(Enum):
    """Which figure of an episode is its reward."""

    total = "total"  # rewards of all turns
    last = "last"  # reward of the last turn
    flag = "flag"  # a flag of the last turn, as 0 or 1 or a number


class EpisodeReturn(RewardFunction):
    """The rewards that the environment gave, turn by turn (``Call.reward``), or a flag that it left on the last turn.

    Channel ``turns``: [turns] the reward of each turn. Raises where the environment gave none, or lost the episode
    (flag ``lost`` of a turn says why): absent is not zero.
    """

    judges_text = False

    @dataclass
    class Config:
        """Which figure."""

        earned: Earned = Earned.total
        flag: str = "success"

    def __init__(self, config: Config) -> None:
        self.config = config

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One value per episode."""
        return [self._value(trajectory) for trajectory in trajectories]

    def _value(self, trajectory: Trajectory) -> Value:
        if not trajectory.calls:
            raise ValueError("the episode has no turn")
        if lost := [call.flags["lost"] for call in trajectory.calls if call.flags.get("lost")]:
            raise ValueError(f"the episode is lost: {lost[0]}")
        if self.config.earned is Earned.flag:
            flags = trajectory.calls[-1].flags
            if self.config.flag not in flags:
                raise ValueError(f"the last turn has no flag {self.config.flag}; it has {', '.join(flags) or 'none'}")
            return Value(score=float(flags[self.config.flag]))
        rewards = [call.reward for call in trajectory.calls]
        given = [reward for reward in rewards if reward is not None]
        if not given or (self.config.earned is Earned.last and rewards[-1] is None):
            raise ValueError("the environment gave no reward")
        turns = np.array([0.0 if reward is None else reward for reward in rewards], np.float32)
        score = sum(given) if self.config.earned is Earned.total else given[-1]
        return Value(score=float(score), channels={"turns": turns})
