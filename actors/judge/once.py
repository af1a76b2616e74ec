"""What is asked under a key is asked once: kept from before, in flight for somebody else, or fresh."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import numpy as np

from raylign.actors.judge.cache import ReplyCache
from raylign.errors import JudgeError
from raylign.records import Float32s

Fresh: TypeAlias = Callable[[Sequence[int]], Awaitable[list[str]]]  # numbers of keys -> their texts, in that order
Flying: TypeAlias = "asyncio.Future[str | None]"  # None: whoever asked gave up, and that says nothing of the model


class Once:
    """The texts of keys, on one event loop."""

    def __init__(self, cache: ReplyCache) -> None:
        self._cache = cache
        self._flying: dict[str, Flying] = {}

    async def texts(self, keys: Sequence[str], fresh: Fresh) -> tuple[list[str], int]:
        """The text of every key, and how many of them were not asked for here.

        fresh: asked once for all keys that nobody knows or asks for. What it raises reaches whoever waits for the same
        keys if it is a JudgeError; after any other end they ask for themselves.
        """
        known: dict[str, str] = {}
        asked = 0
        while missing := {key: number for number, key in reversed([*enumerate(keys)]) if key not in known}:
            waited: dict[str, Flying] = {}
            mine: dict[str, int] = {}
            for key, number in sorted(missing.items(), key=lambda item: item[1]):
                text = self._cache.find(key)
                if text is not None:
                    known[key] = text
                elif key in self._flying:
                    waited[key] = self._flying[key]
                else:
                    mine[key] = number
            if mine:
                known |= await self._asked(mine, fresh)
                asked += len(mine)
            for key, flying in waited.items():
                text = await asyncio.shield(flying)
                if text is not None:
                    known[key] = text
        return [known[key] for key in keys], len(keys) - asked

    async def _asked(self, numbers: dict[str, int], fresh: Fresh) -> dict[str, str]:
        loop = asyncio.get_running_loop()
        flying: dict[str, Flying] = {key: loop.create_future() for key in numbers}
        for future in flying.values():
            future.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting
        self._flying |= flying
        try:
            texts = dict(zip(numbers, await fresh([*numbers.values()]), strict=True))
            for key, text in texts.items():
                flying[key].set_result(text)
                self._cache.store(key, text)
            return texts
        except BaseException as error:
            for future in flying.values():
                if not future.done():
                    future.set_exception(error) if isinstance(error, JudgeError) else future.set_result(None)
            raise
        finally:
            for key in numbers:
                del self._flying[key]


def packed(values: Float32s) -> str:
    """Numbers as a text, exactly."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def unpacked(text: str) -> Float32s:
    """What `packed` was given."""
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)
