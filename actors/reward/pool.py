"""One reward's actors behind one queue.

```
submit -> [queue] -> handle 0: take a fair share, one RPC, requeue or settle
                     handle 1: ...                                             (one asyncio task per actor)
```

Who pays for a failure:

| what happened                                       | the item                                         | the actor  |
|-----------------------------------------------------|--------------------------------------------------|------------|
| function raised, NaN, wrong number of values        | charged; tried again `retries` times             | stays      |
| a call for several items at once raised             | not charged; each is scored alone, in the worker | stays      |
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.exceptions import RayError, RayTaskError

from raylign.actors.remote import NoAnswer, cause_of, kill, reply, spawn
from raylign.actors.reward.figures import Figures
from raylign.actors.reward.outcome import Failed, FailureKind, Item, Outcome, describe_error
from raylign.actors.reward.validate import SAMPLE, outcome_of, sample
from raylign.actors.reward.waiting import Job, Waiting
from raylign.actors.reward.worker import RewardWorker, WorkerReport
from raylign.config.schema import PoolConfig
from raylign.contracts import Scope
from raylign.errors import RewardError
from raylign.records import Absent, Missing, Prompt, Reward

DEATHS = 4  # actors that may die under one item before it is given up
START_S = 300.0
UNSENDABLE = (TypeError, ValueError, AttributeError, pickle.PicklingError)  # raised by what cannot be pickled
GRACE_S = 5.0  # for the RPC itself, on top of the function's deadline
ISOLATED_GRACE_S = 150.0  # an isolated worker keeps the deadline itself; this covers a new zygote


@dataclass(frozen=True, slots=True)
class PoolKind:
    """What its functions are called, where the configuration names them, and what stands before them in metrics."""

    what: str
    section: str
    prefix: str = ""


REWARDS = PoolKind("reward", "rewards")
GRADERS = PoolKind("grader", "audit.graders", "audit/")


@dataclass(slots=True)
class _WorkerHandle:
    index: int
    actor: Any = None
    child_restarts: int = 0


class RewardPool:
    """A queue and `config.workers` actors of one reward function."""

    def __init__(
        self,
        name: str,
        config: PoolConfig,
        log_dir: Path,
        options: Callable[[str, int], Mapping[str, Any]],
        kind: PoolKind = REWARDS,
    ) -> None:
        self.name, self.config, self.kind = name, config, kind
        self._called = f"{kind.what} {name}"
        self.scope, self.maximum = Scope.TRAJECTORY, 1.0  # as the function says, once it was made
        self._log_dir, self._options = log_dir, options
        self._isolated = self._batched = False
        self._waiting = Waiting()
        self._handles = [_WorkerHandle(index) for index in range(config.workers)]
        self._tasks: list[asyncio.Task[None]] = []
        self._pending: set[Job] = set()
        self._figures = Figures()
        self._end: RewardError | None = RewardError(f"{self._called}: the pool was not started")

    async def start(self) -> None:
        """Start the actors. Raises RewardError when the function cannot be made or no actor comes up in time."""
        reports = await asyncio.gather(*(self._start_actor(handle) for handle in self._handles))
        self.scope, self.maximum = reports[0].scope, reports[0].maximum
        self._isolated, self._batched = reports[0].isolated, reports[0].batched
        self._end = None
        self._tasks = [asyncio.create_task(self._serve(handle)) for handle in self._handles]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def submit(self, item: Item) -> list[Reward]:
        """One reward per trajectory of the item; `Missing` for all when it could not be scored. Never a made-up 0."""
        if self._end is not None:
            raise self._end
        job = Job(item, asyncio.get_running_loop().create_future(), time.monotonic())
        self._pending.add(job)
        self._waiting.put(job)
        try:
            return await job.future
        finally:
            self._pending.discard(job)

    async def validate(self, prompts: Sequence[Prompt]) -> list[str]:
        """Problems of the function on a sample of prompts (see `validate.py`)."""
        call = self._handles[0].actor.probes.remote(sample(prompts, SAMPLE))
        try:
            probes, problems = await reply(call, self.config.timeout_s + GRACE_S)
        except NoAnswer:
            return [f"gold() or wrong() took longer than {self.config.timeout_s:g} s"]
        except RayError as error:
            return [f"gold() or wrong() ended the worker: {cause_of(error)}"]
        outcomes = await asyncio.gather(*(self.submit(probe.item) for probe in probes))
        for probe, rewards in zip(probes, outcomes, strict=True):
            problem = probe.problem(outcome_of(rewards[0]))
            problems += [] if problem is None else [problem]
        self._figures = Figures()  # the probes are no part of the run's figures
        return problems

    def metrics(self) -> dict[str, float]:
        """Its figures since the last call, see `Figures.metrics`."""
        figures, self._figures = self._figures, Figures()
        return figures.metrics(f"{self.kind.prefix}{self.name}")

    async def close(self) -> None:
        """End the actors; items still waiting raise RewardError."""
        self._fail_all(RewardError(f"{self._called}: the pool was closed"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for handle in self._handles:
            self._kill(handle)

    # ------------------------------------------------------------------------------------------------- dispatch

    async def _serve(self, handle: _WorkerHandle) -> None:
        while True:
            batch = await self._waiting.take()
            if handle.actor is None:
                try:
                    await self._start_actor(handle)
                except RewardError as error:
                    self._kill(handle)
                    for job in batch:
                        self._died(job, f"no worker could be started: {error}")
                    continue
            await self._score(handle, batch)

    async def _score(self, handle: _WorkerHandle, batch: list[Job]) -> None:
        batch = [job for job in batch if not job.future.done()]  # the caller may have been cancelled
        if not batch:
            return
        self._figures.rpcs += 1
        try:
            call = handle.actor.score.remote([job.item for job in batch])
            outcomes, child_restarts = await reply(call, self._deadline(len(batch)))
        except RayTaskError as error:
            for job in batch:
                self._unsent(job, describe_error(error), len(batch) == 1)
        except NoAnswer:
            self._replace_later(handle)
            for job in batch:
                self._hung(job, len(batch) == 1)
        except RayError as error:  # the actor or its node is gone, not the function's fault
            self._replace_later(handle)
            for job in batch:
                self._died(job, f"its worker died {DEATHS} times: {cause_of(error)}")
        except UNSENDABLE as error:
            for job in batch:
                self._unsent(job, describe_error(error), len(batch) == 1)
        else:
            self._figures.children += child_restarts - handle.child_restarts
            handle.child_restarts = child_restarts
            for job, outcome in zip(batch, outcomes, strict=False):
                self._settle(job, outcome)
            for job in batch[len(outcomes) :]:  # the worker ran out of time for these
                self._waiting.put(job)

    def _deadline(self, count: int) -> float:
        # A batch stops by itself after one timeout, so two bound it; a single item has one. What is scored in one call
        # does not stop, and may be scored once more item by item.
        grace = ISOLATED_GRACE_S if self._isolated else GRACE_S
        longest = count + 1 if self._batched else 2
        return self.config.timeout_s * (1 if count == 1 else longest) + grace

    # ------------------------------------------------------------------------------------- what becomes of a job

    def _settle(self, job: Job, outcome: Outcome) -> None:
        if not isinstance(outcome, Failed):
            self._resolve(job, [Absent() if value is None else value for value in outcome])
        elif job.failures < self.config.retries:
            job.failures += 1
            self._waiting.put(job)
        else:
            self._miss(job, outcome.kind, outcome.reason)

    def _hung(self, job: Job, charged: bool) -> None:
        if charged:
            reason = f"timeout after {self.config.timeout_s:g} s"
            self._settle(job, Failed(kind=FailureKind.TIMEOUT, reason=reason))
        else:
            job.alone = True  # some other item of the batch may be the one that hangs
            self._waiting.put(job)

    def _unsent(self, job: Job, reason: str, charged: bool) -> None:
        if charged:
            self._settle(job, Failed(kind=FailureKind.ERROR, reason=reason))
        else:
            job.alone = True
            self._waiting.put(job)

    def _died(self, job: Job, reason: str) -> None:
        job.deaths += 1
        job.alone = True
        if job.deaths < DEATHS:
            self._waiting.put(job)
        else:
            self._miss(job, FailureKind.DIED, reason)

    def _miss(self, job: Job, kind: FailureKind, reason: str) -> None:
        self._figures.missing[kind.value] += 1
        self._resolve(job, [Missing(reason=reason)] * len(job.item[1]))

    def _resolve(self, job: Job, rewards: list[Reward]) -> None:
        self._figures.scored(time.monotonic() - job.submitted)
        if not job.future.done():
            job.future.set_result(rewards)

    # ---------------------------------------------------------------------------------------------------- actors

    async def _start_actor(self, handle: _WorkerHandle) -> WorkerReport:
        self._kill(handle)
        handle.child_restarts = 0
        handle.actor = spawn(
            RewardWorker,
            self.config.fn,
            f"{self.kind.section}.{self.name}.fn",
            self.config.timeout_s,
            str((self._log_dir / f"{self.kind.what}-{self.name}-{handle.index}.log").absolute()),
            options=self._options(self.name, handle.index),
            threads=max(1, int(self.config.cpus)),
            gpu=self.config.gpus > 0,
        )
        try:
            report: WorkerReport = await reply(handle.actor.report.remote(), START_S)
        except NoAnswer as error:
            raise RewardError(f"{self._called}: no worker after {START_S:.0f} s; are its CPUs free?") from error
        except RayError as error:
            raise RewardError(f"{self._called}: worker {handle.index} did not start: {cause_of(error)}") from error
        return report

    def _replace_later(self, handle: _WorkerHandle) -> None:
        self._figures.restarts += 1
        self._kill(handle)

    def _kill(self, handle: _WorkerHandle) -> None:
        if handle.actor is not None:
            kill(handle.actor)
            handle.actor = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail_all(RewardError(f"{self._called}: {describe_error(error)}"))

    def _fail_all(self, error: RewardError) -> None:
        self._end = error
        for job in self._pending:
            if not job.future.done():
                job.future.set_exception(error)
        self._waiting.clear()
