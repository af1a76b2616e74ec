"""Tasks that somebody owns: none outlives its owner, and the first error is raised as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
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
