"""Many episodes in one process: in a rollout worker when they are cheap, in an env actor when they are not."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from raylign.config.build import build, part_config
from raylign.environment import Environment, Observation
from raylign.errors import EnvironmentLost
from raylign.records import Prompt


def encodable(value: Any) -> Any:
    """A message's text and nested values, half surrogates, which no tokenizer takes, replaced by U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if not _whole(value) else value
    if isinstance(value, Mapping):
        return {encodable(name): encodable(item) for name, item in value.items()}
    return type(value)(map(encodable, value)) if isinstance(value, (list, tuple)) else value


def _whole(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


class EnvironmentHost:
    """`Environments` in this process. An environment that raises or takes too long is closed and reported as lost."""

    def __init__(self, node: Mapping[str, Any], timeout_s: float = 60.0) -> None:
        """Raises ConfigError when the node names no environment."""
        self._node, self._timeout_s = dict(node), timeout_s
        self._open: dict[int, Environment] = {}
        self._numbers = itertools.count()
        first = build(Environment, node, "environment.fn")
        self._class, self._replayable = type(first), first.replayable
        _, self._config = part_config(node, "environment.fn")  # of every environment: none may change it

    @property
    def replayable(self) -> bool:
        """See `Environment.replayable`."""
        return self._replayable

    @property
    def episodes(self) -> int:
        """Episodes open at this moment."""
        return len(self._open)

    async def open(self, prompt: Prompt, seed: int) -> tuple[int, Observation]:
        """See `Environments.open`."""
        number = self._enter()
        return number, await self._call(number, lambda environment: environment.reset(prompt, seed), "reset")

    async def step(self, episode: int, action: str) -> Observation:
        """See `Environments.step`."""
        observation = await self._call(episode, lambda environment: environment.step(action), "step")
        if not isinstance(observation, Observation):
            raise EnvironmentLost(f"{self._name}.step returned {type(observation).__name__}, expected an Observation")
        return observation

    async def steps(self, actions: Sequence[tuple[int, str]]) -> list[Observation | EnvironmentLost]:
        """One step in each of many episodes, in one call; the observation or EnvironmentLost of each."""
        calls = (self.step(episode, action) for episode, action in actions)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, EnvironmentLost):
                raise outcome
        return list(outcomes)  # type: ignore[arg-type]

    async def snapshot(self, episode: int) -> Any:
        """See `Environments.snapshot`."""
        return await self._call(episode, lambda environment: environment.snapshot(), "snapshot")

    async def revive(self, prompt: Prompt, seed: int, state: Any) -> int:
        """See `Environments.revive`."""
        number = self._enter()
        await self._call(number, lambda environment: environment.restore(state), "restore")
        return number

    async def reseed(self, episode: int, seed: int) -> None:
        """See `Environments.reseed`."""
        await self._call(episode, lambda environment: environment.reseed(seed), "reseed")

    async def close(self, episodes: Sequence[int]) -> None:
        """See `Environments.close`."""
        for episode in episodes:
            if episode in self._open:
                await self._call(episode, lambda environment: environment.close(), "close")
                self._open.pop(episode, None)

    def _enter(self) -> int:
        number = next(self._numbers)
        make: Any = self._class
        self._open[number] = make(self._config)
        return number

    async def _call(self, episode: int, method: Callable[[Environment], Any], what: str) -> Any:
        environment = self._open.get(episode)
        if environment is None:
            raise EnvironmentLost(f"{self._name}: episode {episode} is not open here")
        try:
            result = method(environment)
            result = await asyncio.wait_for(result, self._timeout_s) if inspect.isawaitable(result) else result
            return replace(result, messages=encodable(result.messages)) if isinstance(result, Observation) else result
        except TimeoutError:
            self._open.pop(episode, None)
            raise EnvironmentLost(f"{self._name}.{what} took more than {self._timeout_s:g} s") from None
        except EnvironmentLost:
            self._open.pop(episode, None)
            raise
        except Exception as error:
            self._open.pop(episode, None)
            traceback.print_exception(error)  # to the worker's log
            raise EnvironmentLost(f"{self._name}.{what} raised {type(error).__name__}: {error}") from error

    @property
    def _name(self) -> str:
        return str(self._node.get("_target_", "environment")).rpartition(".")[2]
