"""Who starts when: actors that share a device come one after the other, others side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any


async def in_order(starts: Sequence[Callable[[], Awaitable[Any]]], shared: bool) -> list[Any]:
    """Results of all starts. shared: whether they may be on one device.

    An engine that starts measures free memory, and takes whatever another frees or allocates meanwhile for its own.
    """
    if shared:
        return [await start() for start in starts]
    return list(await asyncio.gather(*(start() for start in starts)))
