"""Prompts out of an environment: each is an instance's first observation."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from raylign.config.build import build
from raylign.config.schema import Node, node
from raylign.contracts import RowGenerator
from raylign.data.prompt_identity import INSTANCE
from raylign.data.rows import DataRow
from raylign.environment import Environment, Observation
from raylign.records import Prompt, derive_seed


class EnvironmentRows(RowGenerator):
    """Instance i has the seed ``first_seed + i`` (or a first one drawn from the run's), kept as ``meta["env_seed"]``.

    Its messages are those of `Environment.reset`, its flags are kept in ``meta`` (``domain`` becomes the domain). Of
    instances that begin alike one may be trained on and another held out, unless `Environment.shows_all`.
    """

    @dataclass
    class Config:
        """Which environment, and which of its instances."""

        environment: Node = node(Environment)
        first_seed: int | None = None  # None: drawn from the run's seed
        system: str = ""
        verifier: str = ""

        def __post_init__(self) -> None:
            if not self.environment:
                raise ValueError("environment is empty: name one, e.g. environment: ${environment.fn}")

    def __init__(self, config: Config) -> None:
        self.config = config

    def rows(self, size: int, seed: int) -> Iterator[DataRow]:
        """One row per instance."""
        config = self.config
        first = derive_seed(seed, "instances") % 2**31 if config.first_seed is None else config.first_seed
        system = ({"role": "system", "content": config.system},) if config.system else ()
        for env_seed in range(first, first + size):
            observation, shows_all = self._first(env_seed)
            yield DataRow(
                messages=(*system, *observation.messages),
                place=f"instance {env_seed}",
                verifier=config.verifier,
                domain=str(observation.flags.get("domain", "")),
                meta={"env_seed": env_seed, **({} if shows_all else {INSTANCE: env_seed}), **_facts(observation)},
            )

    def _first(self, env_seed: int) -> tuple[Observation, bool]:
        """What an instance shows first, and whether that is all of it."""
        environment = build(Environment, self.config.environment, "data.generator.environment")
        prompt = Prompt(id="", messages=(), token_ids=np.zeros(0, np.int32), meta={"env_seed": env_seed})
        observation = _awaited(environment.reset(prompt, 0))
        _awaited(environment.close())
        assert isinstance(observation, Observation)
        return observation, environment.shows_all


def _awaited(result: Any) -> Any:
    """The result of a method that may be ``async``, for a synchronous caller (also inside a running event loop)."""
    if not inspect.isawaitable(result):
        return result

    async def wait() -> Any:
        return await result

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, wait()).result()


def _facts(observation: Observation) -> dict[str, Any]:
    """Facts of the instance that rewards and reports may want."""
    return {name: value for name, value in observation.flags.items() if name != "domain"}
