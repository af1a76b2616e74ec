"""One episode as a strategy holds it: it survives the loss of its environment, and can be branched for a search.

A lost environment is opened anew, on whatever actor serves then, from its last snapshot where it has them and else by
replaying the actions; observations that come out differently mean that the environment is not replayable, and the
episode starts over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from raylign.environment import Environments, Observation
from raylign.errors import EnvironmentLost, RaylignError
from raylign.records import Prompt

T = TypeVar("T")


class EpisodeDiverged(RaylignError):
    """Replaying an episode's actions led elsewhere: only a new start is left."""


@dataclass(slots=True)
class EnvironmentCounters:
    """Calls to environments, over all episodes of a worker."""

    steps: int = 0
    branches: int = 0
    revived: int = 0  # episodes taken up again after their environment was lost
    restarted: int = 0  # episodes begun again from their start


class Episode:
    """Open one with `Episode.open`; every call takes up the episode again at most `retries` times, then raises
    EnvironmentLost.
    """

    def __init__(
        self, environments: Environments, prompt: Prompt, seed: int, retries: int, counters: EnvironmentCounters
    ) -> None:
        self._environments, self._prompt, self._seed = environments, prompt, seed
        self._retries, self._counters = retries, counters
        self._number: int | None = None
        self._log: list[tuple[str, Observation]] = []  # actions and their outcomes since the start
        self._noise: list[tuple[int, int]] = []  # (actions taken before, seed) of every change of noise
        self._state: Any = None  # last snapshot, of environments that cannot be replayed

    @classmethod
    async def open(
        cls, environments: Environments, prompt: Prompt, seed: int, retries: int, counters: EnvironmentCounters
    ) -> Episode:
        """Begin."""
        episode = cls(environments, prompt, seed, retries, counters)
        await episode._persist(episode._begin)
        return episode

    async def step(self, action: str) -> Observation:
        """Act; the outcome is the same whether or not the environment was lost meanwhile."""

        async def act() -> Observation:
            assert self._number is not None
            observation = await self._environments.step(self._number, action)
            if not self._environments.replayable:
                self._state = await self._environments.snapshot(self._number)
            return observation

        observation = await self._persist(act)
        self._counters.steps += 1
        self._log.append((action, observation))
        return observation

    async def branch(self, seed: int | None = None) -> Episode:
        """Another episode in the same state. seed: its further noise; None: the same noise as this one would meet.

        Raises EnvironmentLost where the environment has neither snapshots nor replay.
        """
        twin = Episode(self._environments, self._prompt, self._seed, self._retries, self._counters)
        twin._log, twin._noise = list(self._log), list(self._noise)

        async def copy() -> None:
            assert self._number is not None
            twin._state = await self._environments.snapshot(self._number)

        await self._persist(copy)
        await twin._persist(twin._revive)
        if self._environments.replayable:
            twin._state = None  # a snapshot of the past: it would be taken for the present after the next step
        self._counters.branches += 1
        if seed is not None:
            await twin.reseed(seed)
        return twin

    async def reseed(self, seed: int) -> None:
        """Change the seed of the noise from here on."""

        async def change() -> None:
            assert self._number is not None
            await self._environments.reseed(self._number, seed)

        await self._persist(change)
        self._noise.append((len(self._log), seed))

    async def close(self) -> None:
        """End it; an environment that is gone already needs no end."""
        if self._number is not None:
            number, self._number = self._number, None
            try:
                await self._environments.close([number])
            except EnvironmentLost:
                self._number = None

    async def _persist(self, call: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                if self._number is None and call not in (self._begin, self._revive):
                    await self._revive()
                    self._counters.revived += 1
                return await call()
            except EnvironmentLost:
                self._number = None
                failures += 1
                if failures > self._retries:
                    raise

    async def _begin(self) -> None:
        self._number, _ = await self._environments.open(self._prompt, self._seed)

    async def _revive(self) -> None:
        if self._state is not None:
            self._number = await self._environments.revive(self._prompt, self._seed, self._state)
            return
        if not self._environments.replayable and self._log:
            raise EpisodeDiverged("an environment that cannot be replayed left no snapshot")
        await self._begin()
        assert self._number is not None
        for taken, (action, before) in enumerate(self._log):
            await self._renoise(taken)
            after = await self._environments.step(self._number, action)
            if after != before:
                raise EpisodeDiverged(f"action {taken} of a replayed episode led to another observation")
        await self._renoise(len(self._log))

    async def _renoise(self, taken: int) -> None:
        assert self._number is not None
        for at, seed in self._noise:
            if at == taken:
                await self._environments.reseed(self._number, seed)
