"""Several gyms as one environment: instances are numbered through, gym after gym."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raylign.actors.environments.user_gyms.gym import INSTANCE, UserGym
from raylign.config.build import build
from raylign.config.schema import Node, named_nodes
from raylign.environment import Environment, Observation
from raylign.errors import DataError
from raylign.records import Prompt


class GymMixture(Environment):
    """An episode is that of one gym, whose flags, domain and budget it has."""

    replayable = False  # some gyms ask models

    @dataclass
    class Config:
        """gyms: by name, in the order in which their instances are numbered."""

        gyms: dict[str, Node] = named_nodes(UserGym)

        def __post_init__(self) -> None:
            if not self.gyms:
                raise ValueError("gyms is empty: name some, e.g. gyms.function={_target_: ...FunctionGym, path: FILE}")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._gyms: Mapping[str, UserGym] = {
            name: build(UserGym, node, f"environment.fn.gyms.{name}") for name, node in config.gyms.items()
        }
        self._name = ""

    def reset(self, prompt: Prompt, seed: int) -> Observation:
        """See `Environment.reset`. Raises DataError on a number beyond the last gym."""
        number = prompt.meta.get(INSTANCE)
        if isinstance(number, int) and number >= 0:
            left = number
            for name, gym in self._gyms.items():
                count = len(gym.rows())
                if left < count:
                    self._name = name
                    return gym.reset(replace(prompt, meta={**prompt.meta, INSTANCE: left}), seed)
                left -= count
        total = sum(len(gym.rows()) for gym in self._gyms.values())
        raise DataError(
            f"env_seed = {number!r} is no instance of {total} in {', '.join(self._gyms)}; fix: set "
            f"data.generator.first_seed=0 data.size={total}"
        )

    async def step(self, action: str) -> Observation:
        """See `Environment.step`."""
        return await self._gym.step(action)

    def snapshot(self) -> Any:
        """See `Environment.snapshot`."""
        return self._name, self._gym.snapshot()

    def restore(self, state: Any) -> None:
        """See `Environment.restore`."""
        self._name, inner = state
        self._gym.restore(inner)

    @property
    def _gym(self) -> UserGym:
        if not self._name:
            raise RuntimeError("GymMixture was neither reset nor restored")
        return self._gyms[self._name]
