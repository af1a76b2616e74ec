"""Blocked time of the driver's event loop, during which no trajectory is read and no reward is dispatched."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

PAUSE_S = 0.02


class LoopLag:
    """Watches the running loop between enter and exit.

    Example: ``async with LoopLag() as lag: ...; metrics["loop/lag_max_s"] = lag.take()``
    """

    def __init__(self) -> None:
        self._longest = 0.0
        self._asleep = 0.0  # since when; time.perf_counter()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LoopLag:
        self._asleep = time.perf_counter()
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def take(self) -> float:
        """The longest that the loop was late since the last call, in seconds; what blocks it up to this moment counts
        now, and once more only as far as it goes on.
        """
        self._note()
        longest, self._longest = self._longest, 0.0
        return longest

    async def _watch(self) -> None:
        while True:
            self._asleep = time.perf_counter()
            await asyncio.sleep(PAUSE_S)
            self._note()

    def _note(self) -> None:
        now = time.perf_counter()
        self._longest = max(self._longest, now - self._asleep - PAUSE_S)
        self._asleep = now
