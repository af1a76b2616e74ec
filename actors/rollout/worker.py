"""The rollout actor: one engine, the strategies of its tasks, trajectories out in small lists as they finish."""

from __future__ import annotations

import asyncio
import json
import os
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import ray

from raylign.actors.environments.remote import environments_of
from raylign.actors.rollout.engine import Engine, EngineSpec, Gap, make_engine
from raylign.config.build import build
from raylign.config.schema import EngineKind
from raylign.contracts import (
    EnvironmentSpec,
    Refused,
    RolloutStrategy,
    RolloutTask,
    Scored,
    StrategySpec,
    WeightUpdate,
)
from raylign.errors import EngineDeadError, RaylignError, RequestError
from raylign.records import Float32s, Int32s, StopReason, Trajectory, derive_seed
from raylign.telemetry.logs import redirect_output

COALESCE_S = 0.02  # trajectories that finish within this time travel together
EXIT_DELAY_S = 0.5  # lets the error reach the pool before the process is gone

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """Everything needed to build a worker, the first time and again.

    Example: ``WorkerSpec(index=0, kind=EngineKind.auto, engine=spec, strategy={"_target_": ...}, log_path="/r/0.log")``
    """

    index: int
    kind: EngineKind
    engine: EngineSpec
    strategy: Mapping[str, Any]
    log_path: str
    environment: EnvironmentSpec | None = None


class RolloutWorker:
    """Runs in a Ray actor with an event loop. When the engine dies the process exits, and the pool rebuilds it.

    Every exception that leaves it is a RaylignError of plain text.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        redirect_output(spec.log_path)
        self.spec = spec
        self._strategies: dict[str, RolloutStrategy] = {}  # by content
        self._own = StrategySpec(node=spec.strategy, environment=spec.environment)
        self._strategy(self._own)
        self._engine: Engine = make_engine(spec.kind, spec.engine)
        self._phase = "created"
        self._base: Mapping[str, str] = {}  # digests of the weights that were last published as a whole

    async def start(self) -> dict[str, float]:
        """Load the model. Returns seconds."""
        started = time.perf_counter()
        self._phase = "starting"
        await self._guard(self._engine.start())
        self._phase = "ready"
        return {"seconds": time.perf_counter() - started}

    @ray.method(num_returns="streaming")
    async def rollout(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        """Run the strategy on every task; yields what has finished since the last list. `Scored.task` indexes `tasks`.

        A sample that the engine refuses comes as a Scored with an `error`. All first requests enter the engine
        together.
        """
        finished: list[Scored] = []
        news = asyncio.Event()

        def deliver(item: Scored) -> None:
            finished.append(item)
            news.set()

        async with self._engine.held():
            runs = [asyncio.ensure_future(self._run(index, task, deliver)) for index, task in enumerate(tasks)]
        done = asyncio.gather(*runs)
        done.add_done_callback(lambda _: news.set())
        try:
            while not done.done():
                await news.wait()
                if not done.done():
                    await asyncio.sleep(COALESCE_S)
                news.clear()
                if finished:
                    batch, finished[:] = list(finished), []
                    yield batch
            await self._guard(done)
            if finished:
                yield list(finished)
        finally:
            for run in runs:
                run.cancel()

    async def score(self, rows: Sequence[tuple[Int32s, int]]) -> list[Float32s]:
        """Log-probs of ``ids[start:]`` at temperature 1, for every (ids, start)."""
        async with self._engine.held():
            calls = [asyncio.ensure_future(self._engine.score(ids, start)) for ids, start in rows]
        return await self._guard(asyncio.gather(*calls))

    async def update(self, weights: WeightUpdate) -> dict[str, float]:
        """pause, load, commit, verify, resume. Returns seconds of each phase, bytes, and the probe's gap.

        Raises EngineDeadError when any of it fails or the probe's log-probs are not the learner's.
        """
        engine, phases = self._engine, dict[str, float]()
        started = time.perf_counter()

        async def phase(name: str, step: Callable[[], Awaitable[T]]) -> T:
            self._phase, begun = f"update {weights.version}: {name}", time.perf_counter()
            result = await self._guard(step())
            phases[name] = phases.get(name, 0.0) + time.perf_counter() - begun
            return result

        async def put(weights: WeightUpdate) -> tuple[Gap, int]:
            buffer = await phase("fetch", lambda: _fetch(weights.buffer))
            await phase("pause", engine.pause)
            if weights.adapter is None:
                await phase("load", lambda: engine.load(weights.layout, buffer))
                self._base = weights.digests
            else:
                await phase("load", lambda: engine.load_adapter(weights, buffer))
            await phase("commit", lambda: engine.commit(weights.version))
            gap = await phase("verify", lambda: engine.verify(weights))
            await phase("resume", engine.resume)
            return gap, len(buffer)

        size = 0
        if weights.on is not None and weights.on.digests != self._base:  # other weights than the adapter was made for
            _, size = await put(weights.on)
        gap, more = await put(weights)
        self._phase = "ready"
        sizes = {"bytes": float(size + more)}
        return phases | sizes | {"seconds": time.perf_counter() - started, "gap_mean": gap.mean, "gap_max": gap.max}

    @ray.method(concurrency_group="health")
    async def ping(self) -> dict[str, Any]:
        """Answered from another thread than the work, so it tells a busy worker from a dead one."""
        return {"pid": os.getpid(), "phase": self._phase, "version": self._engine.version}

    async def stats(self) -> dict[str, Any]:
        """The engine's counters."""
        return {"worker": self.spec.index, "phase": self._phase} | self._engine.stats()

    async def close(self) -> None:
        """Stop the engine; the actor may then be killed."""
        self._phase = "closed"
        await self._engine.close()

    async def _run(self, index: int, task: RolloutTask, deliver: Callable[[Scored], None]) -> None:
        left = set(task.samples)
        try:
            async for outcome in self._strategy(task.strategy or self._own).run(task, self._engine):
                left.discard(outcome.sample_index)
                if isinstance(outcome, Refused):
                    deliver(Scored(task=index, trajectory=_refused(task, outcome.sample_index), error=outcome.reason))
                else:
                    deliver(Scored(task=index, trajectory=outcome))
        except EngineDeadError:
            raise
        except Exception as error:  # noqa: BLE001 - a strategy, environment or template may raise anything: it costs this task
            known = isinstance(error, RequestError)
            if not known:
                traceback.print_exception(error)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            for sample in sorted(left):
                deliver(Scored(task=index, trajectory=_refused(task, sample), error=reason))

    def _strategy(self, spec: StrategySpec) -> RolloutStrategy:
        """The strategy of a spec, built when it is first asked for."""
        content = json.dumps(asdict(spec), sort_keys=True, default=str)
        if content not in self._strategies:
            self._strategies[content] = build(
                RolloutStrategy, spec.node, "strategy", environments=environments_of(spec.environment)
            )
        return self._strategies[content]

    async def _guard(self, work: Awaitable[T]) -> T:
        """The result of some work; every failure as a plain error, and a dead engine as the end of this process."""
        try:
            return await work
        except EngineDeadError as error:
            traceback.print_exception(error)
            asyncio.get_running_loop().call_later(EXIT_DELAY_S, os._exit, 1)
            raise EngineDeadError(str(error)) from error
        except RaylignError:
            raise
        except Exception as error:
            traceback.print_exception(error)
            raise RaylignError(f"rollout worker {self.spec.index}: {type(error).__name__}: {error}") from error


async def _fetch(buffer: Any) -> np.ndarray:
    """The flat weights: zero-copy from the object store, or the array itself."""
    return await buffer if isinstance(buffer, ray.ObjectRef) else np.asarray(buffer, np.uint8)


def _refused(task: RolloutTask, index: int) -> Trajectory:
    seed = derive_seed(task.run_seed, task.prompt.key, index, 0)
    return Trajectory(prompt_key=task.prompt.key, sample_index=index, calls=(), seed=seed, stop=StopReason.ABORT)
