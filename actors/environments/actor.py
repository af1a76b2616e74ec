"""Environments in actors of their own: started by the run, restarted by Ray, reached by name from the rollout workers.

An env actor holds nothing that cannot be made again: an episode whose actor died is taken up on whichever actor serves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.exceptions import RayError

from raylign.actors.environments.host import EnvironmentHost
from raylign.actors.remote import NoAnswer, cause_of, kill, reply, spawn
from raylign.config.schema import EnvironmentConfig
from raylign.contracts import EnvironmentSpec
from raylign.environment import Observation
from raylign.errors import EnvironmentLost, RaylignError
from raylign.records import Prompt
from raylign.telemetry.logs import redirect_output

START_S = 120.0
RESTARTS = 1000  # Ray's own; a worker that dies at every call is stopped by the retries of the episodes


def environment_spec(
    config: EnvironmentConfig, stage: str = "", node: Mapping[str, Any] | None = None
) -> EnvironmentSpec:
    """The environments of a run, or those of a stage with one (`node`) of its own, hosted by as many actors."""
    place = f"environment/{stage}" if stage else "environment"
    names = tuple(f"{place}/{index}" for index in range(config.workers))
    return EnvironmentSpec(node=dict(node or config.fn), timeout_s=config.timeout_s, actors=names)


class EnvironmentActor:
    """`EnvironmentHost` behind Ray; `step` comes in batches."""

    def __init__(self, spec: EnvironmentSpec, log_path: str) -> None:
        redirect_output(log_path)
        self._host = EnvironmentHost(spec.node, spec.timeout_s)

    async def report(self) -> dict[str, Any]:
        """Answered as soon as the actor serves."""
        return {"replayable": self._host.replayable, "episodes": self._host.episodes}

    async def open(self, prompt: Prompt, seed: int) -> tuple[int, Observation]:
        """See `Environments.open`."""
        return await self._host.open(prompt, seed)

    async def steps(self, actions: Sequence[tuple[int, str]]) -> list[Observation | EnvironmentLost]:
        """See `EnvironmentHost.steps`."""
        return await self._host.steps(actions)

    async def snapshot(self, episode: int) -> Any:
        """See `Environments.snapshot`."""
        return await self._host.snapshot(episode)

    async def revive(self, prompt: Prompt, seed: int, state: Any) -> int:
        """See `Environments.revive`."""
        return await self._host.revive(prompt, seed, state)

    async def reseed(self, episode: int, seed: int) -> None:
        """See `Environments.reseed`."""
        await self._host.reseed(episode, seed)

    async def close(self, episodes: Sequence[int]) -> None:
        """See `Environments.close`."""
        await self._host.close(episodes)


class EnvironmentActors:
    """All env actors of a run."""

    def __init__(
        self, spec: EnvironmentSpec, log_dir: Path, options: Callable[[int], Mapping[str, Any]] = lambda index: {}
    ) -> None:
        self._spec, self._log_dir, self._options = spec, log_dir, options
        self._actors: list[Any] = []

    async def start(self) -> None:
        """Start them. Raises RaylignError when one does not come up."""
        for index, name in enumerate(self._spec.actors):
            log = str((self._log_dir / f"{name.replace('/', '-')}.log").absolute())
            actor = spawn(
                EnvironmentActor,
                self._spec,
                log,
                options=self._options(index),
                threads=1,
                gpu=False,
                name=name,
                max_restarts=RESTARTS,
                max_concurrency=1000,
            )
            self._actors.append(actor)
        for name, actor in zip(self._spec.actors, self._actors, strict=True):
            try:
                await reply(actor.report.remote(), START_S)
            except (NoAnswer, RayError) as error:
                raise RaylignError(f"{name} did not start: {cause_of(error)}; its log is in {self._log_dir}") from error

    async def close(self) -> None:
        """End them."""
        for actor in self._actors:
            kill(actor)
        self._actors.clear()
