"""What the turns of an episode earned and cost: the shaped reward r'_t, and its discounted sums to the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raylign.records import Call, Trajectory

Float64s = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagNames:
    """What an environment calls the facts of a turn; user: empty where no turn involves one."""

    user: str = "user"
    valid: str = "valid"
    success: str = "success"
    budget: str = "budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """The turns of one trajectory.

    Example: ``Episode(rewards=[0, 1], user=[False, True], valid=[True, True], solved=True, budget=15)``
    """

    rewards: Float64s  # [turns] r_t of the environment
    user: Flags  # [turns] a_t in A_u
    valid: Flags  # [turns] an act of the game
    solved: bool
    budget: int  # T

    @property
    def completed(self) -> int:
        """T': turns with an act of the game; one that was cut off or could not be read is none. At least 1."""
        return max(int(self.valid.sum()), 1)

    @property
    def effort(self) -> int:
        """U: turns that involved the user."""
        return int(self.user.sum())

    @property
    def consecutive(self) -> Flags:
        """[turns] the user is involved, and was in the act before: no work on the world lies between.

        Turns without an act do not count as work.
        """
        before, repeated = False, np.zeros(len(self.user), bool)
        for turn in np.flatnonzero(self.valid):
            repeated[turn], before = before and self.user[turn], bool(self.user[turn])
        return repeated

    def within(self, effort: int) -> float:
        """What was earned by at most so many turns that involved the user (Pass@U-k)."""
        return float(self.rewards[np.cumsum(self.user) <= effort].sum())


def episode_of(trajectory: Trajectory, names: FlagNames, budget: int = 0) -> Episode:
    """The episode of a trajectory with calls. budget: T, 0: the flag that is named so.

    Raises ValueError on a call without a flag that is needed, naming it.
    """
    calls = trajectory.calls
    return Episode(
        rewards=np.array([call.reward or 0.0 for call in calls], np.float64),
        user=_flags(calls, names.user) if names.user else np.zeros(len(calls), bool),
        valid=_flags(calls, names.valid),
        solved=bool(_flag(calls[-1], names.success)),
        budget=budget or int(_flag(calls[-1], names.budget)),
    )


def penalties(episode: Episode, *, answer: float, think: float, effort: float, cap: float) -> tuple[Float64s, ...]:
    """([turns] of the user's effort, [turns] of consecutive involvement, [turns] of thinking too long), none negative.

    The last is min(think (T - T') / T', cap), at the last turn of an episode that failed before its budget.
    """
    thinking = np.zeros(len(episode.rewards))
    left = episode.budget - episode.completed
    if len(thinking) and not episode.solved and left > 0:
        thinking[-1] = min(think * left / episode.completed, cap)
    asked, again = episode.user.astype(np.float64), episode.consecutive.astype(np.float64)
    return effort * asked, answer * again, thinking


def to_go(rewards: Float64s, gamma: float) -> Float64s:
    """[turns] sum over k >= t of gamma^(k - t) r_k."""
    sums = np.zeros(len(rewards))
    total = 0.0
    for turn in range(len(rewards) - 1, -1, -1):
        total = rewards[turn] + gamma * total
        sums[turn] = total
    return sums


def _flags(calls: Sequence[Call], name: str) -> Flags:
    return np.array([bool(_flag(call, name)) for call in calls], bool)


def _flag(call: Call, name: str) -> float:
    if name not in call.flags:
        there = ", ".join(call.flags) or "none"
        raise ValueError(
            f"a turn has no flag {name!r}, which bao reads; there are {there}; fix: name the environment's flag, or "
            "set shaper.user= answer=0 where no user takes part, shaper.budget=TURNS where the environment has none"
        )
    return call.flags[name]
