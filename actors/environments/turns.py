"""The bookkeeping of an episode that every text environment shares: limits, the format penalty, and the flags of a
turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raylign.actors.environments.agent_format import AgentFormat


@dataclass
class AgentLimits:
    """How an agent acts and for how long (defaults: TSR's released configuration of the grid games)."""

    format: AgentFormat = AgentFormat.answer
    turns: int = 5
    actions_per_turn: int = 2
    actions: int = 10  # of the whole episode
    format_penalty: float = -0.1  # of a turn that was empty or lost an action; part of the turn's reward

    def __post_init__(self) -> None:
        for key in ("turns", "actions_per_turn", "actions"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} = {getattr(self, key)}: must be at least 1")
        if self.format_penalty > 0:
            raise ValueError(f"format_penalty = {self.format_penalty}: is added to the reward, make it 0 or less")


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What a turn came to."""

    reward: float  # the environment's own, summed over the turn's actions
    actions: int  # taken, legal ones only
    dropped: int  # written within the turn's cap, but unknown or illegal
    effective: bool  # the state changed
    success: bool  # the task is solved as things stand
    over: bool  # the environment itself has ended, not a limit

    @property
    def valid(self) -> bool:
        """Whether the turn was neither empty nor lost an action."""
        return self.actions > 0 and not self.dropped


class Turns:
    """Counts turns and actions of one episode and closes it at a limit."""

    def __init__(self, limits: AgentLimits) -> None:
        self._limits = limits
        self.turn = self.actions = 0
        self.done = False

    @property
    def left(self) -> int:
        """Actions that the episode still allows."""
        return self._limits.actions - self.actions

    @property
    def cap(self) -> int:
        """Actions that the next turn may take. Raises RuntimeError when the episode is over: the caller went on."""
        if self.done:
            raise RuntimeError("the episode is over: open another one")
        return min(self._limits.actions_per_turn, self.left)

    def end(self, played: Played) -> tuple[float, dict[str, Any]]:
        """Close a turn: its reward with the format penalty, and its flags."""
        penalty = 0.0 if played.valid else self._limits.format_penalty
        turn = self.turn
        self.turn, self.actions = turn + 1, self.actions + played.actions
        self.done = played.over or self.left <= 0 or self.turn >= self._limits.turns
        flags = {
            "success": played.success,
            "valid": played.valid,
            "effective": played.effective,
            "actions": played.actions,
            "actions_total": self.actions,
            "turn": turn,
            "over": played.over,
            "game_reward": played.reward,
            "format_penalty": penalty,
        }
        return played.reward + penalty, flags

    def state(self) -> tuple[int, int, bool]:
        """The counts."""
        return self.turn, self.actions, self.done

    def restore(self, state: tuple[int, int, bool]) -> None:
        """Undo what `state` saw."""
        self.turn, self.actions, self.done = state
