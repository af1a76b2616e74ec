"""Judges for callers without an event loop: reward functions, which run in synchronous actors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from raylign.actors.judge.client import Judge, shared_judge

T = TypeVar("T")


class BlockingJudge:
    """A judge on an event loop of its own, in a thread that ends with the process.

    Made when first asked: a process that is forked before then (the zygote of isolated rewards) inherits no thread.

    Example: ``verdicts = judge(lambda j: asyncio.gather(*(j.ask(m, read, schema) for m in questions)))``
    """

    def __init__(self, node: Mapping[str, Any]) -> None:
        self._node = dict(node)
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, work: Callable[[Judge], Awaitable[T]]) -> T:
        """The result of some questions; blocks. Raises what they raise."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="judge", daemon=True).start()

        async def run() -> T:
            return await work(shared_judge(self._node))

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()
