"""One reward's actors behind one queue.

```
submit -> [queue] -> slot 0: take a fair share, one RPC, requeue or settle
                     slot 1: ...                                             (one asyncio task per actor)
```

Who pays for a failure:

| what happened                                       | the item                                         | the actor  |
|-----------------------------------------------------|--------------------------------------------------|------------|
| function raised, NaN, wrong number of values        | charged; tried again `retries` times             | stays      |
| deadline, process ended (isolated)                  | charged                                          | new child  |
| a verifier's CPU time spent, or process ended twice | 0, if the gold answer can be judged, else charged | new child  |
| actor died or hung with a batch of several          | not charged; each is sent again, alone           | replaced   |
| hung alone (not isolated)                           | charged as timeout                               | replaced   |
| actor died with one item, the cause unknown         | not charged; missing after `DEATHS` of them      | replaced   |
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from raylign.actor_env import actor_env
from raylign.actors.ray_errors import cause_of
from raylign.actors.reward.outcome import Failed, FailureKind, Item, Outcome, describe_error
from raylign.actors.reward.validate import SAMPLE, sample
from raylign.actors.reward.worker import RewardWorker, WorkerReport
from raylign.config.schema import RewardConfig
from raylign.contracts import Scope
from raylign.errors import RewardError
from raylign.records import Absent, Missing, Prompt, Reward

MAX_BATCH = 64  # items in one RPC: about 30 ms of verdicts against 1 ms of RPC
DEATHS = 4  # actors that may die under one item before it is given up
START_S = 300.0
GRACE_S = 5.0  # for the RPC itself, on top of the function's deadline
ISOLATED_GRACE_S = 150.0  # an isolated worker keeps the deadline itself; this covers a new zygote


@dataclass(slots=True, eq=False)
class _Job:
    item: Item
    future: asyncio.Future[list[Reward]]
    submitted: float
    failures: int = 0
    deaths: int = 0
    alone: bool = False


@dataclass(slots=True)
class _Counts:
    items: int = 0
    rpcs: int = 0
    restarts: int = 0
    latency_sum: float = 0.0
    latency_max: float = 0.0
    missing: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Slot:
    index: int
    actor: Any = None
    child_restarts: int = 0


class RewardPool:
    """A queue and `config.workers` actors of one reward function."""

    def __init__(
        self,
        name: str,
        config: RewardConfig,
        log_dir: Path,
        options: Callable[[str, int], Mapping[str, Any]],
    ) -> None:
        self.name, self.config = name, config
        self.scope = Scope.TRAJECTORY
        self._log_dir, self._options = log_dir, options
        self._isolated = False
        self._queue: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._idle = 0
        self._slots = [_Slot(index) for index in range(config.workers)]
        self._tasks: list[asyncio.Task[None]] = []
        self._pending: set[_Job] = set()
        self._counts = _Counts()
        self._end: RewardError | None = RewardError(f"reward {name}: the pool was not started")

    async def start(self) -> None:
        """Start the actors. Raises RewardError when the function cannot be made or no actor comes up in time."""
        reports = await asyncio.gather(*(self._start_actor(slot) for slot in self._slots))
        self.scope, self._isolated = reports[0].scope, reports[0].isolated
        self._end = None
        self._tasks = [asyncio.create_task(self._serve(slot)) for slot in self._slots]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def submit(self, item: Item) -> list[Reward]:
        """One reward per trajectory of the item; `Missing` for all when it could not be scored. Never a made-up 0."""
        if self._end is not None:
            raise self._end
        job = _Job(item, asyncio.get_running_loop().create_future(), time.monotonic())
        self._pending.add(job)
        self._put(job)
        try:
            return await job.future
        finally:
            self._pending.discard(job)

    async def validate(self, prompts: Sequence[Prompt]) -> list[str]:
        """Problems of the function on a sample of prompts (see `validate.py`)."""
        call = self._slots[0].actor.probes.remote(sample(prompts, SAMPLE))
        try:
            found, problems = await _reply(call, self.config.timeout_s + GRACE_S)
        except TimeoutError:
            return [f"gold() or wrong() took longer than {self.config.timeout_s:g} s"]
        except ray.exceptions.RayError as error:
            return [f"gold() or wrong() ended the worker: {cause_of(error)}"]
        outcomes = await asyncio.gather(*(self.submit(probe.item) for probe in found))
        for probe, rewards in zip(found, outcomes, strict=True):
            first = rewards[0]
            outcome: Outcome = (
                (None if isinstance(first, Absent) else first,)
                if not isinstance(first, Missing)
                else (Failed(kind=FailureKind.ERROR, reason=first.reason))
            )
            problem = probe.problem(outcome)
            problems += [] if problem is None else [problem]
        self._counts = _Counts()  # the probes are no part of the run's figures
        return problems

    def stats(self) -> dict[str, float]:
        """Figures since the last call."""
        counts, self._counts = self._counts, _Counts()
        return {
            "items": float(counts.items),
            "rpcs": float(counts.rpcs),
            "restarts": float(counts.restarts),
            "latency_mean_s": counts.latency_sum / max(1, counts.items),
            "latency_max_s": counts.latency_max,
            "missing": float(counts.missing.total()),
            **{f"missing_{kind}": float(number) for kind, number in counts.missing.items()},
        }

    async def close(self) -> None:
        """End the actors; items still waiting raise RewardError."""
        self._fail_all(RewardError(f"reward {self.name}: the pool was closed"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for slot in self._slots:
            self._kill(slot)

    # ------------------------------------------------------------------------------------------------- dispatch

    async def _serve(self, slot: _Slot) -> None:
        while True:
            batch = await self._take()
            if slot.actor is None:
                try:
                    await self._start_actor(slot)
                except RewardError as error:
                    self._kill(slot)
                    for job in batch:
                        self._died(job, f"no worker could be started: {error}")
                    continue
            await self._score(slot, batch)

    async def _take(self) -> list[_Job]:
        self._idle += 1
        try:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            # What came in the same moment is divided among those who wait, so that no actor stands idle.
            share = min(MAX_BATCH, -(-len(self._queue) // self._idle))
        finally:
            self._idle -= 1
        batch = [self._queue.popleft()]
        while not batch[0].alone and self._queue and len(batch) < share and not self._queue[0].alone:
            batch.append(self._queue.popleft())
        return batch

    async def _score(self, slot: _Slot, batch: list[_Job]) -> None:
        batch = [job for job in batch if not job.future.done()]  # the caller may have been cancelled
        if not batch:
            return
        self._counts.rpcs += 1
        try:
            call = slot.actor.score.remote([job.item for job in batch])
            outcomes, child_restarts = await _reply(call, self._deadline(len(batch)))
        except ray.exceptions.RayTaskError as error:
            for job in batch:
                self._unsent(job, describe_error(error), len(batch) == 1)
        except TimeoutError:
            self._replace_later(slot)
            for job in batch:
                self._hung(job, len(batch) == 1)
        except ray.exceptions.RayError as error:  # the actor or its node is gone, not the function's fault
            self._replace_later(slot)
            for job in batch:
                self._died(job, f"its worker died {DEATHS} times ({type(error).__name__})")
        except (
            TypeError,
            ValueError,
            AttributeError,
            pickle.PicklingError,
        ) as error:  # what cannot be pickled cannot be sent
            for job in batch:
                self._unsent(job, describe_error(error), len(batch) == 1)
        else:
            self._counts.restarts += child_restarts - slot.child_restarts
            slot.child_restarts = child_restarts
            for job, outcome in zip(batch, outcomes, strict=False):
                self._settle(job, outcome)
            for job in batch[len(outcomes) :]:  # the worker ran out of time for these
                self._put(job)

    def _deadline(self, count: int) -> float:
        # A batch stops by itself after one timeout, so two bound it; a single item has one.
        grace = ISOLATED_GRACE_S if self._isolated else GRACE_S
        return self.config.timeout_s * (1 if count == 1 else 2) + grace

    # ------------------------------------------------------------------------------------- what becomes of a job

    def _settle(self, job: _Job, outcome: Outcome) -> None:
        if not isinstance(outcome, Failed):
            self._resolve(job, [Absent() if value is None else value for value in outcome])
        elif job.failures < self.config.retries:
            job.failures += 1
            self._put(job)
        else:
            self._miss(job, outcome.kind, outcome.reason)

    def _hung(self, job: _Job, charged: bool) -> None:
        if charged:
            reason = f"timeout after {self.config.timeout_s:g} s"
            self._settle(job, Failed(kind=FailureKind.TIMEOUT, reason=reason))
        else:
            job.alone = True  # some other item of the batch may be the one that hangs
            self._put(job)

    def _unsent(self, job: _Job, reason: str, charged: bool) -> None:
        if charged:
            self._settle(job, Failed(kind=FailureKind.ERROR, reason=reason))
        else:
            job.alone = True
            self._put(job)

    def _died(self, job: _Job, reason: str) -> None:
        job.deaths += 1
        job.alone = True
        if job.deaths < DEATHS:
            self._put(job)
        else:
            self._miss(job, FailureKind.DIED, reason)

    def _miss(self, job: _Job, kind: FailureKind, reason: str) -> None:
        self._counts.missing[kind.value] += 1
        self._resolve(job, [Missing(reason=reason)] * len(job.item[1]))

    def _resolve(self, job: _Job, rewards: list[Reward]) -> None:
        latency = time.monotonic() - job.submitted
        self._counts.items += 1
        self._counts.latency_sum += latency
        self._counts.latency_max = max(self._counts.latency_max, latency)
        if not job.future.done():
            job.future.set_result(rewards)

    def _put(self, job: _Job) -> None:
        self._queue.append(job)
        self._arrived.set()

    # ---------------------------------------------------------------------------------------------------- actors

    async def _start_actor(self, slot: _Slot) -> WorkerReport:
        self._kill(slot)
        options = dict(self._options(self.name, slot.index))
        environment = dict(options.pop("runtime_env", None) or {})
        variables = {**actor_env(1, gpu=self.config.gpus > 0), **environment.get("env_vars", {})}
        slot.child_restarts = 0
        slot.actor = (
            ray.remote(RewardWorker)
            .options(**options, max_restarts=0, runtime_env={**environment, "env_vars": variables})
            .remote(
                self.config.fn,
                f"rewards.{self.name}.fn",
                self.config.timeout_s,
                str((self._log_dir / f"reward-{self.name}-{slot.index}.log").absolute()),
            )
        )
        try:
            report: WorkerReport = await _reply(slot.actor.report.remote(), START_S)
        except TimeoutError as error:
            raise RewardError(f"reward {self.name}: no worker after {START_S:.0f} s; are its CPUs free?") from error
        except ray.exceptions.RayError as error:
            raise RewardError(f"reward {self.name}: worker {slot.index} did not start: {cause_of(error)}") from error
        return report

    def _replace_later(self, slot: _Slot) -> None:
        self._counts.restarts += 1
        self._kill(slot)

    def _kill(self, slot: _Slot) -> None:
        if slot.actor is not None:
            ray.kill(slot.actor, no_restart=True)
            slot.actor = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail_all(RewardError(f"reward {self.name}: {describe_error(error)}"))

    def _fail_all(self, error: RewardError) -> None:
        self._end = error
        for job in self._pending:
            if not job.future.done():
                job.future.set_exception(error)
        self._queue.clear()


async def _reply(reference: Any, seconds: float) -> Any:
    """What a call returned. Raises TimeoutError, and leaves the call alone, when that takes too long."""
    future = asyncio.wrap_future(reference.future())
    future.add_done_callback(_retrieve)
    done, _ = await asyncio.wait({future}, timeout=seconds)
    if not done:
        raise TimeoutError
    return future.result()


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # an answer that came too late is nobody's; without this asyncio complains
