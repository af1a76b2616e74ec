"""All rollout workers as one: work is split, dead workers are replaced, and every sample arrives exactly once.

tasks ──task i to worker i mod W──► workers ──lists of Scored──► ledger ──new samples only► loop
                                      │ dies
                                      └─► rebuilt in the background with the last published weights;
                                          its open samples go to the survivors, or wait for it
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from raylign.actors.remote import in_order
from raylign.actors.rollout.engine import EngineSpec
from raylign.actors.rollout.stream import SampleCounters, SampleStream
from raylign.actors.rollout.worker import WorkerSpec
from raylign.actors.rollout.worker_handle import WorkerHandle, serving
from raylign.config.schema import LoraConfig, ModelConfig, RolloutConfig
from raylign.contracts import EnvironmentSpec, RolloutTask, Scored, WeightUpdate
from raylign.records import Float32s, Int32s


class VllmRolloutPool:
    """`RolloutPool` over `config.workers` vLLM actors.

    `options` gives the Ray options of worker i (resources, placement); the environment is added here.
    module prefixes that a strategy's `_target_` may name besides raylign's own. `deadline_s` bounds every single call.
    """

    def __init__(
        self,
        config: RolloutConfig,
        model: ModelConfig,
        model_path: str,
        *,
        log_dir: str | Path,
        environment: EnvironmentSpec | None = None,
        options: Callable[[int], dict[str, Any]] = lambda index: {},
        deadline_s: float = 1800.0,
        lora: Sequence[LoraConfig] = (),
    ) -> None:
        self._deadline_s, self._gpus = deadline_s, config.gpus
        self._handles = [
            WorkerHandle(
                WorkerSpec(
                    index=index,
                    kind=config.engine,
                    engine=EngineSpec.of(config, model, model_path, lora),
                    strategy=dict(config.strategy),
                    environment=environment,
                    log_path=str((Path(log_dir) / f"rollout-{index}.log").absolute()),
                ),
                options(index),
                max_restarts=config.max_restarts,
                deadline_s=deadline_s,
            )
            for index in range(config.workers)
        ]
        self._counters = SampleCounters()

    def share_device(self, kv_bytes: int, make_room: Callable[[], Awaitable[None]]) -> None:
        """Before the start, where engines share their devices: bytes of keys and values, and what frees memory there
        before an engine is rebuilt.
        """
        for handle in self._handles:
            engine = handle.spec.engine
            engine = replace(engine, kv_cache_bytes=kv_bytes) if engine.gpu else engine
            handle.spec, handle.make_room = replace(handle.spec, engine=engine), make_room

    async def start(self) -> None:
        """Start all workers, one by one where they may share a device.

        Raises EngineDeadError naming the worker, the cause and its log.
        """
        await in_order([handle.ready for handle in self._handles], 0 < self._gpus < 1)

    def stream(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        """See `RolloutPool.stream`. Raises EngineDeadError when a worker's restarts are exhausted."""
        return SampleStream(self._handles, tasks, self._counters, self._deadline_s).run()

    async def publish(self, weights: WeightUpdate) -> dict[str, float]:
        """Load, commit and prove new weights in all workers at once.

        Returns seconds of the whole and of the slowest worker in each phase, and the gaps of the probe (nat). A worker
        that fails is rebuilt with these weights, and one that is being rebuilt starts with them; EngineDeadError when
        its restarts are exhausted.
        """
        started = time.perf_counter()
        ready = serving(self._handles)
        for handle in self._handles:
            handle.weights = weights
        await asyncio.gather(*(handle.publish() for handle in ready))
        while not (reports := [handle.report for handle in ready if handle.alive]):
            await asyncio.gather(*(handle.ready() for handle in ready))
        slowest = {
            name: max(report[name] for report in reports) for name in reports[0] if name not in ("seconds", "gap_mean")
        }
        means = [report["gap_mean"] for report in reports]
        return slowest | {"seconds": time.perf_counter() - started, "gap_mean": sum(means) / len(means)}

    async def score(self, rows: Sequence[tuple[Int32s, int]]) -> list[Float32s]:
        """Log-probs of ``ids[start:]`` at temperature 1 for every (ids, start), in order; row i by worker i mod W."""
        ready = serving(self._handles)
        width = len(ready)
        shares = [list(rows[number::width]) for number in range(width)]
        parts = await asyncio.gather(
            *(handle.call("score", share) for handle, share in zip(ready, shares, strict=True) if share)
        )
        logprobs: list[Any] = [None] * len(rows)
        for number, part in enumerate(parts):
            logprobs[number::width] = part
        return logprobs

    async def busy(self) -> tuple[float, int]:
        """See `RolloutPool.busy`; an engine that was rebuilt begins anew."""
        seconds = [worker["busy_s"] for worker in (await self.stats())["workers"] if "busy_s" in worker]
        return sum(seconds), len(seconds)

    async def stats(self) -> dict[str, Any]:
        """Counters of the pool and of every worker that serves."""
        workers = await asyncio.gather(*(handle.call("stats") for handle in serving(self._handles)))
        return {**asdict(self._counters), "restarts": self.restarts, "workers": workers}

    @property
    def alive(self) -> int:
        """Workers that serve at this moment."""
        return sum(handle.alive for handle in self._handles)

    @property
    def restarts(self) -> int:
        """Workers that were rebuilt so far."""
        return sum(handle.restarts for handle in self._handles)

    async def pids(self) -> list[int]:
        """Process ids of the workers on their machines."""
        return [answer["pid"] for answer in await asyncio.gather(*(handle.call("ping") for handle in self._handles))]

    async def close(self) -> None:
        """Stop all engines and actors."""
        await asyncio.gather(*(handle.close() for handle in self._handles))
