"""The workers of one judge of a run, started and ended by the driver; everybody else reaches them by name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from raylign.actor_env import actor_env
from raylign.actors.judge.endpoint import Endpoint
from raylign.actors.judge.served import actor_name
from raylign.actors.judge.worker import JudgeSpec, JudgeWorker
from raylign.actors.ray_errors import cause_of
from raylign.actors.rollout.engine import GIB, EngineSpec
from raylign.actors.starting import in_order
from raylign.config.schema import JudgeConfig
from raylign.errors import EngineDeadError, RaylignError

CLOSE_S = 5.0


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

    async def start(self) -> None:
        """Start all workers and load their models. Raises EngineDeadError naming the cause and the log."""
        self._actors = [self._create(index) for index in range(self._config.workers)]
        await in_order([partial(self._started, index) for index in range(len(self._actors))], 0 < self._config.gpus < 1)

    async def pids(self) -> list[int]:
        """Process ids of the workers on their machines."""
        return list(await asyncio.gather(*(_resolve(actor.ping.remote()) for actor in self._actors)))

    async def close(self) -> None:
        """Stop all engines and actors."""
        await asyncio.gather(*(self._close(actor) for actor in self._actors))
        self._actors = []

    def _create(self, index: int) -> Any:
        config, options = self._config, dict(self._options(index))
        environment = dict(options.pop("runtime_env", None) or {})
        variables = {**actor_env(config.threads, config.gpus > 0), **environment.get("env_vars", {})}
        endpoint = None
        if config.endpoint:
            endpoint = Endpoint.Config(url=config.endpoint, model=config.path, key_file=config.key_file)
        spec = JudgeSpec(
            log_path=self._logs[index],
            kind=config.engine,
            engine=self._engine,
            endpoint=endpoint,
        )
        remote: Any = ray.remote  # its stubs do not know concurrency groups
        actor_class = remote(concurrency_groups={"health": 1})(JudgeWorker).options(
            **options,
            name=actor_name(self.name, index),
            runtime_env={**environment, "env_vars": variables},
            max_restarts=config.max_restarts,
            max_task_retries=0,  # whoever asked sends the request on, to the worker that is free first
        )
        return actor_class.remote(spec)

    async def _started(self, index: int) -> None:
        try:
            await asyncio.wait_for(_resolve(self._actors[index].start.remote()), self._deadline_s)
        except (RayError, RaylignError, TimeoutError) as error:
            await self.close()
            late = isinstance(error, TimeoutError) and not str(error)
            cause = f"no answer within {self._deadline_s:g} s" if late else cause_of(error)
            raise EngineDeadError(f"judge {self.name}: {cause}; its log: {self._logs[index]}") from None

    async def _close(self, actor: Any) -> None:
        with contextlib.suppress(RayActorError, RaylignError, TimeoutError):  # it is killed all the same
            await asyncio.wait_for(_resolve(actor.close.remote()), CLOSE_S)
        ray.kill(actor, no_restart=True)


async def _resolve(reference: Any) -> Any:
    return await reference
