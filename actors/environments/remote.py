"""A rollout worker's view of the env actors: steps made in the same moment travel together, deaths become
EnvironmentLost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayTaskError

from raylign.actors.environments.host import EnvironmentHost
from raylign.actors.remote import GONE, NoAnswer, cause_of, reply
from raylign.contracts import EnvironmentSpec
from raylign.environment import Environments, Observation
from raylign.errors import EnvironmentLost
from raylign.records import Prompt

GRACE_S = 10.0  # for the call itself, on top of the environment's own deadline
PAUSE_S = 0.1  # between two looks at an actor that is being restarted
RESTART_S = 60.0


class RemoteEnvironments:
    """`Environments` over actors by name. Episode number = number on its actor * actors + actor."""

    def __init__(self, spec: EnvironmentSpec, replayable: bool) -> None:
        self._spec = spec
        self._width = len(spec.actors)
        self._handles: list[Any] = [None] * self._width
        self._load = [0] * self._width
        self._waiting: dict[int, list[tuple[int, str, asyncio.Future[Observation]]]] = {}
        self._sending: set[asyncio.Task[None]] = set()  # a loop keeps no reference to a task
        self._replayable = replayable

    @property
    def replayable(self) -> bool:
        """See `Environment.replayable`."""
        return self._replayable

    async def open(self, prompt: Prompt, seed: int) -> tuple[int, Observation]:
        """See `Environments.open`; the actor with the fewest episodes of this worker."""
        actor = self._idlest()
        number, observation = await self._call(actor, "open", prompt, seed)
        self._load[actor] += 1
        return number * self._width + actor, observation

    async def step(self, episode: int, action: str) -> Observation:
        """See `Environments.step`."""
        number, actor = divmod(episode, self._width)
        future: asyncio.Future[Observation] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(actor, [])
        waiting.append((number, action, future))
        if len(waiting) == 1:
            sending = asyncio.create_task(self._send(actor))  # begun once all steps of this moment wait
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        return await future

    async def snapshot(self, episode: int) -> Any:
        """See `Environments.snapshot`."""
        number, actor = divmod(episode, self._width)
        return await self._call(actor, "snapshot", number)

    async def revive(self, prompt: Prompt, seed: int, state: Any) -> int:
        """See `Environments.revive`."""
        actor = self._idlest()
        number = await self._call(actor, "revive", prompt, seed, state)
        self._load[actor] += 1
        return int(number) * self._width + actor

    async def reseed(self, episode: int, seed: int) -> None:
        """See `Environments.reseed`."""
        number, actor = divmod(episode, self._width)
        await self._call(actor, "reseed", number, seed)

    async def close(self, episodes: Sequence[int]) -> None:
        """See `Environments.close`."""
        for actor in sorted({episode % self._width for episode in episodes}):
            numbers = [episode // self._width for episode in episodes if episode % self._width == actor]
            self._load[actor] -= len(numbers)
            await self._call(actor, "close", numbers)

    def _idlest(self) -> int:
        return min(range(self._width), key=lambda actor: (self._handles[actor] is None, self._load[actor], actor))

    async def _send(self, actor: int) -> None:
        """Everything that waits for one actor, in one call."""
        batch = self._waiting.pop(actor, [])
        try:
            outcomes = await self._call(actor, "steps", [(number, action) for number, action, _ in batch])
        except EnvironmentLost as lost:
            outcomes = [lost] * len(batch)
        for (_, _, future), outcome in zip(batch, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, EnvironmentLost):
                future.set_exception(EnvironmentLost(str(outcome)))
            else:
                future.set_result(outcome)

    async def _call(self, actor: int, method: str, *arguments: Any) -> Any:
        handle = await self._handle(actor)
        try:
            reference = getattr(handle, method).remote(*arguments)
            return await reply(reference, self._spec.timeout_s + GRACE_S)
        except NoAnswer:
            ray.kill(handle, no_restart=False)  # it hangs, and with it every episode that it holds
            self._forget(actor)
            raise EnvironmentLost(f"{self._spec.actors[actor]} hangs in {method}; it is restarted") from None
        except RayTaskError as error:
            raise EnvironmentLost(cause_of(error)) from None
        except GONE as error:
            self._forget(actor)
            raise EnvironmentLost(f"{self._spec.actors[actor]} died: {cause_of(error)}") from None

    async def _handle(self, actor: int) -> Any:
        """The actor, once it answers: Ray may be restarting it."""
        if self._handles[actor] is not None:
            return self._handles[actor]
        name, deadline = self._spec.actors[actor], time.monotonic() + RESTART_S
        while True:
            try:
                handle = await asyncio.to_thread(ray.get_actor, name)
                await reply(handle.report.remote(), RESTART_S)
                self._handles[actor] = handle
                return handle
            except (ValueError, *GONE, NoAnswer) as error:
                if time.monotonic() > deadline:
                    raise EnvironmentLost(f"{name} does not come back: {cause_of(error)}") from error
                await asyncio.sleep(PAUSE_S)

    def _forget(self, actor: int) -> None:
        self._handles[actor], self._load[actor] = None, 0


def environments_of(spec: EnvironmentSpec | None) -> Environments | None:
    """The environments of a rollout worker: in its own process, or behind the actors that the spec names."""
    if spec is None:
        return None
    host = EnvironmentHost(spec.node, spec.timeout_s)
    return RemoteEnvironments(spec, host.replayable) if spec.actors else host
