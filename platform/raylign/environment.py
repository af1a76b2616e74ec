"""Environments that episodes live in: what an environment promises, and what a rollout strategy sees of it.

    strategy --action text--> Environments --> one Environment per episode
             <-- Observation: messages, reward, done --

An environment is a part like any other: a class with a nested ``Config`` and ``__init__(self, config)``. Cheap ones run
in the rollout worker, others in supervised actors (``environment.workers``); neither the environment nor the strategy
knows which.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from raylign.contracts import Part
from raylign.records import Message, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What an environment answers to `reset` and to every action.

    `flags` are facts of the turn for advantages, rewards and logs; numbers and booleans of the last turn become metrics
    of the trajectory. ``turn`` says which dialogue turn the call belonged to where one turn takes several calls.

    Example: ``Observation(messages=({"role": "user", "content": "P_O"},), reward=-0.1, flags={"success": False})``
    """

    messages: tuple[Message, ...] = ()  # what the policy reads next (role user or tool); none when the episode is over
    reward: float | None = None  # of the action just taken; None: the environment gives none
    done: bool = False
    flags: Mapping[str, Any] = field(default_factory=dict)


class Environment(Part):
    """One environment for one episode. Methods may be plain or ``async``; a plain one must not block for long.

    An exception means that the environment broke, never that the policy acted badly: the episode is taken up again from
    its snapshot or its start, and when that fails too its reward is Missing.
    """

    what = "an environment"
    replayable: bool = True  # the same prompt, seed and actions lead to the same observations
    shows_all: bool = False  # True: what an instance shows at its start is all of it; two that begin alike are the same

    @abstractmethod
    def reset(self, prompt: Prompt, seed: int) -> Observation | Awaitable[Observation]:
        """Begin. The prompt says which instance (``prompt.meta``): the same for all samples that are compared with each
        other. `seed` draws the noise of this episode alone.

        The messages are those that the prompt already ends with (see `raylign.actors.environments.rows`).
        """

    @abstractmethod
    def step(self, action: str) -> Observation | Awaitable[Observation]:
        """Act by what the policy wrote in one turn. An action that makes no sense is answered, not raised."""

    def snapshot(self) -> Any:
        """The whole state, picklable, or None when there is none to be had: then the actions are replayed."""
        return None

    def restore(self, state: Any) -> None:
        """Stand where `snapshot` was taken, also in another object of the class that was never reset."""
        raise TypeError(f"{type(self).__name__} has no snapshots")

    def reseed(self, seed: int) -> None:
        """Draw what comes next from another stream of noise."""

    def close(self) -> Awaitable[None] | None:
        """Give back what the episode held."""


class Environments(Protocol):
    """All open episodes, by number. Every call may raise EnvironmentLost when the environment behind it broke or is
    gone.
    """

    async def open(self, prompt: Prompt, seed: int) -> tuple[int, Observation]:
        """Begin an episode; its number and first observation."""

    async def step(self, episode: int, action: str) -> Observation:
        """Act in an episode."""

    async def snapshot(self, episode: int) -> Any:
        """The state of an episode, or None when its environment has no snapshots."""

    async def revive(self, prompt: Prompt, seed: int, state: Any) -> int:
        """Begin an episode in a state that `snapshot` gave."""

    async def reseed(self, episode: int, seed: int) -> None:
        """Draw an episode's further noise from another stream."""

    async def close(self, episodes: Sequence[int]) -> None:
        """End episodes; numbers that are not open are passed over."""

    @property
    def replayable(self) -> bool:
        """See `Environment.replayable`."""
