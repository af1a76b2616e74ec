"""The workers of one judge of a run, started and ended by the driver; everybody else reaches them by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ray.exceptions import RayError

from raylign.actors.judge.endpoint import Endpoint
from raylign.actors.judge.served import actor_name
from raylign.actors.judge.worker import JudgeSpec, JudgeWorker
from raylign.actors.remote import NoAnswer, cause_of, end, in_order, reply, spawn
from raylign.actors.rollout.engine import GIB, EngineSpec
from raylign.config.schema import JudgeConfig
from raylign.errors import EngineDeadError, RaylignError


class JudgeGroup:
    """`config.workers` actors named ``judge/<name>/<index>``.

    options: Ray options of worker i (placement).
    """

    def __init__(
        self,
        name: str,
        config: JudgeConfig,
        model_path: str,
        *,
        dtype: str,
        trust_remote_code: bool = False,
        log_dir: Path | str,
        options: Callable[[int], dict[str, Any]] = lambda index: {},
        deadline_s: float = 1800.0,
    ) -> None:
        self.name, self._config, self._options, self._deadline_s = name, config, options, deadline_s
        self._logs = [str((Path(log_dir) / f"judge-{name}-{i}.log").absolute()) for i in range(config.workers)]
        self._policy_path = ""
        self._engine: EngineSpec | None = None
        if not config.endpoint:
            self._engine = EngineSpec(
                model_path=model_path,
                dtype=config.dtype or dtype,
                max_context=config.max_context,
                max_sequences=config.max_sequences,
                threads=config.threads,
                kv_cache_bytes=0 if config.gpus else int(config.kv_cache_gb * GIB),
                gpu=config.gpus > 0,
                gpu_memory=config.gpu_memory,
                tensor_parallel=config.tensor_parallel,
                trust_remote_code=trust_remote_code,
                template_args=dict(config.template),
            )
        self._actors: list[Any] = []

    def share_device(self, kv_bytes: int) -> None:
        """Before the start: keys and values that each engine may keep on a device which it shares."""
        if self._engine is not None and self._engine.gpu:
            self._engine = replace(self._engine, kv_cache_bytes=kv_bytes)

    def scores_for(self, policy_path: str) -> None:
        """Before the start: the model whose ids it is to score, so that another vocabulary is refused."""
        self._policy_path = policy_path

    async def start(self) -> None:
        """Start all workers and load their models. Raises EngineDeadError naming the cause and the log."""
        self._actors = [self._create(index) for index in range(self._config.workers)]
        await in_order([partial(self._started, index) for index in range(len(self._actors))], 0 < self._config.gpus < 1)

    async def pids(self) -> list[int]:
        """Process ids of the workers on their machines."""
        return list(await asyncio.gather(*(reply(actor.ping.remote()) for actor in self._actors)))

    async def close(self) -> None:
        """Stop all engines and actors."""
        await asyncio.gather(*(end(actor) for actor in self._actors))
        self._actors = []

    def _create(self, index: int) -> Any:
        config = self._config
        endpoint = None
        if config.endpoint:
            endpoint = Endpoint.Config(url=config.endpoint, model=config.path, key_file=config.key_file)
        spec = JudgeSpec(
            log_path=self._logs[index],
            key=f"judges.{self.name}",
            kind=config.engine,
            engine=self._engine,
            endpoint=endpoint,
            verbs=tuple(config.verbs),
            pooling=config.pooling,
            policy_path=self._policy_path,
        )
        return spawn(
            JudgeWorker,
            spec,
            options=self._options(index),
            threads=config.threads,
            gpu=config.gpus > 0,
            health=True,
            name=actor_name(self.name, index),
            max_restarts=config.max_restarts,  # no call is repeated: whoever asked sends it to the worker free first
        )

    async def _started(self, index: int) -> None:
        try:
            await reply(self._actors[index].start.remote(), self._deadline_s)
        except (RayError, RaylignError, NoAnswer) as error:
            await self.close()
            raise EngineDeadError(f"judge {self.name}: {cause_of(error)}; its log: {self._logs[index]}") from None
