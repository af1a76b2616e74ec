"""One pass over a list of tasks: who makes which sample, what has arrived, and what to do when a worker dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import ray

from raylign.actors.remote import NoAnswer, reply
from raylign.actors.rollout.worker_handle import DEATHS, WorkerHandle, serving
from raylign.contracts import RolloutTask, Scored
from raylign.errors import EngineDeadError, RaylignError

Sample: TypeAlias = tuple[int, int]  # task, sample index


@dataclass(slots=True)
class SampleCounters:
    """Over all passes of a pool."""

    redrawn: int = 0  # samples made again because their worker died
    duplicates: int = 0  # samples that arrived twice; the second is dropped
    refused: int = 0  # samples that the engine refused


class SampleStream:
    """Every sample of `tasks`, exactly once. A sample made twice has the same tokens, so either may be kept."""

    def __init__(
        self,
        handles: Sequence[WorkerHandle],
        tasks: Sequence[RolloutTask],
        counters: SampleCounters,
        deadline_s: float,
    ) -> None:
        self._handles, self._tasks, self._counters, self._deadline_s = handles, tasks, counters, deadline_s
        self._open: set[Sample] = {(index, sample) for index, task in enumerate(tasks) for sample in task.samples}
        self._news: asyncio.Queue[list[Scored] | BaseException] = asyncio.Queue()
        self._jobs: set[asyncio.Task[None]] = set()

    async def run(self) -> AsyncIterator[list[Scored]]:
        """Lists of finished trajectories as they come. Raises EngineDeadError when restarts are exhausted."""
        handles = serving(self._handles)
        if len(self._tasks) < len(handles):
            handles.sort(key=lambda handle: handle.samples)
        for number, handle in enumerate(handles):
            share = [sample for sample in sorted(self._open) if sample[0] % len(handles) == number]
            if share:
                self._dispatch(handle, share)
        try:
            while self._open or not self._news.empty():
                news = await self._news.get()
                if isinstance(news, BaseException):
                    raise news
                yield news
        finally:
            for job in self._jobs:
                job.cancel()
            await asyncio.gather(*self._jobs, return_exceptions=True)

    def _dispatch(self, handle: WorkerHandle, samples: Sequence[Sample]) -> None:
        self._jobs.add(asyncio.create_task(self._serve(handle, samples)))

    async def _serve(self, handle: WorkerHandle, samples: Sequence[Sample]) -> None:
        """Let one worker make some samples. When it dies, its open samples go to the other workers, or wait for it."""
        handle.samples += len(samples)
        try:
            worker = await handle.ready()
            try:
                await self._receive(worker, samples)
            except DEATHS as death:
                handle.died(worker, death)
                self._sample_again(handle, samples)
        except Exception as error:  # noqa: BLE001 - handed to the consumer of the stream, who raises it
            self._news.put_nowait(error)
        finally:
            handle.samples -= len(samples)

    async def _receive(self, worker: Any, samples: Sequence[Sample]) -> None:
        """One call of a worker; one that says nothing for `deadline_s` counts as dead."""
        numbers = sorted({task for task, _ in samples})
        indices = {number: tuple(index for task, index in samples if task == number) for number in numbers}
        stream = worker.rollout.remote([replace(self._tasks[number], indices=indices[number]) for number in numbers])
        ended = False
        try:
            while True:
                try:
                    batch = await reply(_next(stream), self._deadline_s)
                except StopAsyncIteration:
                    ended = True
                    break
                except NoAnswer:
                    raise EngineDeadError(f"no trajectory for {self._deadline_s:.0f} s") from None
                self._enter([replace(item, task=numbers[item.task]) for item in batch])
        finally:
            if not ended:
                ray.cancel(stream, recursive=False)
        if lost := [sample for sample in samples if sample in self._open]:
            raise RaylignError(f"the strategy ended without {len(lost)} of its samples, the first is {lost[0]}")

    def _enter(self, items: Sequence[Scored]) -> None:
        """The ledger: what was still open, now closed and on its way to the consumer."""
        fresh = []
        for item in items:
            sample = (item.task, item.trajectory.sample_index)
            if sample not in self._open:
                self._counters.duplicates += 1
                continue
            self._open.remove(sample)
            self._counters.refused += bool(item.error)
            fresh.append(item)
        if fresh:
            self._news.put_nowait(fresh)

    def _sample_again(self, handle: WorkerHandle, samples: Sequence[Sample]) -> None:
        left = [sample for sample in samples if sample in self._open]
        self._counters.redrawn += len(left)
        survivors = [other for other in self._handles if other.alive] or [handle]
        for number, survivor in enumerate(survivors):
            if part := left[number :: len(survivors)]:
                self._dispatch(survivor, part)


async def _next(stream: Any) -> list[Scored]:
    return await (await anext(stream))
