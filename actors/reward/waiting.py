"""The items of one reward that wait for an actor, and how they are divided among those that are free."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from raylign.actors.reward.outcome import Item
from raylign.records import Reward

MAX_BATCH = 64  # items in one RPC: about 30 ms of verdicts against 1 ms of RPC


@dataclass(slots=True, eq=False)
class Job:
    """One item on its way to its rewards."""

    item: Item
    future: asyncio.Future[list[Reward]]
    submitted: float  # time.monotonic()
    failures: int = 0  # charged to the item
    deaths: int = 0  # of actors under it
    alone: bool = False  # it may be what hangs or kills: it travels with no other


class Waiting:
    """A queue whose takers get fair shares: what came in the same moment is divided, so that no actor stands idle."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self._takers = 0

    def put(self, job: Job) -> None:
        """Last in line."""
        self._jobs.append(job)
        self._arrived.set()

    async def take(self) -> list[Job]:
        """The next items for one actor, at least one and at most `MAX_BATCH`."""
        self._takers += 1
        try:
            while not self._jobs:
                self._arrived.clear()
                await self._arrived.wait()
            share = min(MAX_BATCH, -(-len(self._jobs) // self._takers))
        finally:
            self._takers -= 1
        batch = [self._jobs.popleft()]
        while not batch[0].alone and self._jobs and len(batch) < share and not self._jobs[0].alone:
            batch.append(self._jobs.popleft())
        return batch

    def clear(self) -> None:
        """Forget all that waits."""
        self._jobs.clear()
