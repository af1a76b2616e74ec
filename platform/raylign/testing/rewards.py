"""Rewards without actors: reward functions, or plain functions, called in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from raylign.contracts import RewardFunction, Scope
from raylign.records import Absent, Missing, Prompt, Reward, Trajectory, Value

Rule = Callable[[Prompt, Trajectory], Reward | float]


class FakeRewards:
    """Implements `raylign.contracts.RewardPools`, by reward name.

    A rule gives a number or a reward of one trajectory; what it raises is raised. A `RewardFunction` is asked as a pool
    asks it, without deadline or retries: what it raises is Missing, None is Absent.

    Example: ``FakeRewards({"short": lambda prompt, t: -t.response_length, "exact": ExactMatch(ExactMatch.Config())})``
    """

    def __init__(self, rewards: Mapping[str, RewardFunction | Rule]) -> None:
        self._rewards = dict(rewards)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all rewards."""
        return tuple(self._rewards)

    async def score(self, prompt: Prompt, trajectory: Trajectory) -> Mapping[str, Reward]:
        """Trajectory-scoped rewards of one trajectory."""
        await asyncio.sleep(0)
        scored: dict[str, Reward] = {}
        for name, reward in self._rewards.items():
            if not isinstance(reward, RewardFunction):
                value = reward(prompt, trajectory)
                scored[name] = value if isinstance(value, Value | Missing | Absent) else Value(score=float(value))
            elif reward.scope is Scope.TRAJECTORY:
                (scored[name],) = _asked(reward, prompt, [trajectory])
        return scored

    async def score_group(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Mapping[str, Reward]]:
        """Group-scoped rewards of all samples of a prompt."""
        grouped = {
            name: _asked(reward, prompt, trajectories)
            for name, reward in self._rewards.items()
            if isinstance(reward, RewardFunction) and reward.scope is Scope.GROUP
        }
        return [{name: rewards[index] for name, rewards in grouped.items()} for index in range(len(trajectories))]


def _asked(function: RewardFunction, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Reward]:
    try:
        values = function.score(prompt, trajectories)
        return [Absent() if value is None else value for _, value in zip(trajectories, values, strict=True)]
    except Exception as error:  # noqa: BLE001 - as in a pool, what a reward raises is a missing reward
        return [Missing(reason=f"{type(error).__name__}: {error}")] * len(trajectories)
