"""Environments in actors on real Ray: a killed or hanging actor loses no episode."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from raylign.actors.environments.actor import EnvironmentActors, environment_spec
from raylign.actors.environments.episode import EnvironmentCounters, Episode
from raylign.actors.environments.host import EnvironmentHost
from raylign.actors.environments.remote import environments_of
from raylign.config.schema import EnvironmentConfig
from raylign.environment import Environments, Observation
from raylign.records import Prompt

pytestmark = pytest.mark.ray
PROMPT = Prompt(id="p", messages=(), token_ids=np.zeros(1, np.int32), meta={"env_seed": 10})
SEEDS = range(6)
PATHS = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
HERE = {"env_vars": {"PYTHONPATH": os.pathsep.join(PATHS)}}


@pytest.fixture
def serve(ray_session: None, tmp_path: Path) -> Iterator[Callable[..., Environments]]:
    started: list[EnvironmentActors] = []

    def start(workers: int, timeout_s: float = 20.0, **config: Any) -> Environments:
        fn = {"_target_": "environments.Dice", "length": 9, **config}
        spec = environment_spec(EnvironmentConfig(fn=fn, workers=workers, timeout_s=timeout_s))
        assert spec is not None
        actors = EnvironmentActors(spec, tmp_path, lambda index: {"num_cpus": 0, "runtime_env": HERE})
        started.append(actors)
        asyncio.run(actors.start())
        environments = environments_of(spec)
        assert environments is not None
        return environments

    yield start
    for actors in started:
        asyncio.run(actors.close())


async def play(
    environments: Environments, disturb: Callable[[int], None] = lambda step: None
) -> list[list[Observation]]:
    """Six episodes of five steps, side by side."""

    async def one(seed: int) -> list[Observation]:
        episode = await Episode.open(environments, PROMPT, seed, 3, EnvironmentCounters())
        observations = []
        for step in range(5):
            if seed == SEEDS[0]:
                disturb(step)
            observations.append(await episode.step("a"))
        await episode.close()
        return observations

    return await asyncio.gather(*(one(seed) for seed in SEEDS))


def expected() -> list[list[Observation]]:
    return asyncio.run(play(EnvironmentHost({"_target_": "environments.Dice", "length": 9})))


def test_actors_give_what_the_worker_itself_would(serve: Callable[..., Environments]) -> None:
    assert asyncio.run(play(serve(2))) == expected()


def test_a_killed_actor_loses_no_episode(serve: Callable[..., Environments]) -> None:
    environments = serve(2)

    def disturb(step: int) -> None:
        if step in (1, 3):
            ray.kill(ray.get_actor(f"environment/{step % 2}"), no_restart=False)

    assert asyncio.run(play(environments, disturb)) == expected()


@pytest.mark.parametrize("how", ["exit", "hang"])
def test_an_environment_that_takes_its_actor_down(serve: Callable[..., Environments], tmp_path: Path, how: str) -> None:
    switch = tmp_path / "breaks"
    environments = serve(1, timeout_s=1.0, breaks=str(switch), how=how)

    def disturb(step: int) -> None:
        if step == 2:
            switch.write_text("1")

    assert asyncio.run(play(environments, disturb)) == expected()
