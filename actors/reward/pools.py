"""All rewards of a run, or all its graders: one pool of actors each, seen as `score` and `score_group`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

from raylign.actors.reward.pool import REWARDS, PoolKind, RewardPool
from raylign.config.schema import PoolConfig
from raylign.contracts import Scope
from raylign.errors import RewardError
from raylign.records import Prompt, Reward, Trajectory

SHOWN = 6  # problems of rewards that are told one by one


class RewardPools:
    """Implements the contract `raylign.contracts.RewardPools` on Ray actors; lives on the driver's event loop.

    options: Ray actor options of worker `index` of the reward `name` (resources, placement).
    """

    def __init__(
        self,
        configs: Mapping[str, PoolConfig],
        log_dir: str | Path,
        options: Callable[[str, int], Mapping[str, Any]],
        kind: PoolKind = REWARDS,
    ) -> None:
        self._kind = kind
        self._pools = {name: RewardPool(name, config, Path(log_dir), options, kind) for name, config in configs.items()}

    @property
    def names(self) -> frozenset[str]:
        """Of the rewards."""
        return frozenset(self._pools)

    @property
    def maxima(self) -> dict[str, float]:
        """What each gives a perfect sample, by name; known once they are started."""
        return {name: pool.maximum for name, pool in self._pools.items()}

    @property
    def grouped(self) -> bool:
        """Whether one of them judges all samples of a prompt at once; known once they are started."""
        return bool(self._of(Scope.GROUP))

    def with_those_of(self, others: RewardPools) -> RewardPools:
        """These rewards and those of others."""
        both = copy(self)
        both._pools = self._pools | others._pools
        return both

    def only(self, names: Collection[str]) -> RewardPools:
        """Some of these rewards, by the same actors."""
        some = copy(self)
        some._pools = {name: pool for name, pool in self._pools.items() if name in names}
        return some

    async def start(self) -> None:
        """Start all actors. Raises RewardError with every pool's problem when some function cannot be made."""
        results = await asyncio.gather(*(pool.start() for pool in self._pools.values()), return_exceptions=True)
        await self._refuse(results)

    async def validate(self, prompts: Sequence[Prompt]) -> None:
        """Prove every reward on a sample of prompts, through the same path that training uses.

        Raises RewardError with all problems: gold responses below the maximum, wrong ones at it, errors, timeouts.
        """
        problems_of = await asyncio.gather(*(pool.validate(prompts) for pool in self._pools.values()))
        problems = [f"{name}: {line}" for name, lines in zip(self._pools, problems_of, strict=True) for line in lines]
        if problems:
            more = [f"and {len(problems) - SHOWN} more of the kind"] if len(problems) > SHOWN else []
            lines = "\n".join(f"  {line}" for line in [*problems[:SHOWN], *more])
            raise RewardError(f"{self._kind.what}s that do not prove themselves:\n{lines}")

    async def score(self, prompt: Prompt, trajectory: Trajectory) -> Mapping[str, Reward]:
        """The trajectory-scoped rewards of one trajectory. Calls of the same moment travel together."""
        pools = self._of(Scope.TRAJECTORY)
        scored = await asyncio.gather(*(pool.submit((prompt, (trajectory,))) for pool in pools.values()))
        return {name: rewards[0] for name, rewards in zip(pools, scored, strict=True)}

    async def score_group(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Mapping[str, Reward]]:
        """The group-scoped rewards of all samples of a prompt, in their order."""
        pools = self._of(Scope.GROUP)
        scored = await asyncio.gather(*(pool.submit((prompt, tuple(trajectories))) for pool in pools.values()))
        return [
            {name: rewards[index] for name, rewards in zip(pools, scored, strict=True)}
            for index in range(len(trajectories))
        ]

    def metrics(self) -> dict[str, float]:
        """Of all pools since the last call, see `Figures.metrics`."""
        return {name: value for pool in self._pools.values() for name, value in pool.metrics().items()}

    async def close(self) -> None:
        """End all actors; calls still waiting raise RewardError."""
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    def _of(self, scope: Scope) -> dict[str, RewardPool]:
        return {name: pool for name, pool in self._pools.items() if pool.scope is scope}

    async def _refuse(self, results: Sequence[BaseException | None]) -> None:
        errors = [error for error in results if error is not None]
        if not errors:
            return
        await self.close()
        for error in errors:
            if not isinstance(error, RewardError):
                raise error
        raise RewardError("\n".join(map(str, errors)))
