"""Tasks that somebody owns: none outlives its owner, and the first error is raised as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


@asynccontextmanager
async def owned() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group. When a task or the body raises, the others are cancelled and awaited, then the first error is
    raised by itself, without the group around it.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        first: BaseException = errors.exceptions[0]
    else:
        return
    raise first


async def together(*calls: Coroutine[Any, Any, T]) -> list[T]:
    """Results of calls that run side by side, in their order; see `owned`."""
    async with owned() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


async def as_finished(calls: Iterable[Coroutine[Any, Any, T]]) -> AsyncGenerator[T]:
    """Results of calls that run side by side, as they come. Whoever stops reading ends those that are left, at once
    where it reads within ``contextlib.aclosing``.
    """
    jobs = [asyncio.ensure_future(call) for call in calls]
    try:
        for finished in asyncio.as_completed(jobs):
            yield await finished
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
