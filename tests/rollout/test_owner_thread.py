"""One thread owns an object: what is posted runs there in order, and the first exception is the object's death."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from raylign.actors.rollout.owner_thread import OwnerThread, raising
from raylign.errors import EngineDeadError


class Counter:
    """Works off a number; 13 is more than it can bear."""

    def __init__(self, left: int = 0, broken: bool = False) -> None:
        self.owner = OwnerThread(self, "counter")
        self.left, self.broken, self.shuts = left, broken, 0
        self.waiting: list[asyncio.Future[Any]] = []
        self.threads: set[int] = set()

    def build(self) -> None:
        if self.broken:
            raise KeyError("no such file")

    def work(self) -> None:
        self.threads.add(threading.get_ident())
        if self.left == 13:
            raise ValueError("thirteen")
        self.left -= self.left > 0
        if not self.left:
            for future in self.waiting:
                self.owner.deliver(future, lambda: "done")
            self.waiting.clear()

    def busy(self) -> bool:
        return self.left > 0

    def fail(self, death: EngineDeadError) -> None:
        for future in self.waiting:
            self.owner.deliver(future, raising(death))
        self.waiting.clear()

    def shut(self) -> None:
        self.shuts += 1

    async def wait(self, left: int) -> Any:
        future = self.owner.future()

        def enter() -> None:
            self.left = left
            self.waiting.append(future)

        self.owner.post(enter)
        return await asyncio.wait_for(future, 5)


def test_work_and_commands_run_in_one_other_thread_and_it_sleeps_without_work() -> None:
    async def use() -> Counter:
        counter = Counter()
        await counter.owner.start()
        order: list[int] = []
        for number in range(100):
            counter.owner.post(lambda number=number: order.append(number))  # type: ignore[misc]
        assert await counter.wait(12) == "done"
        assert order == list(range(100))
        assert await counter.owner.call(threading.get_ident) in counter.threads
        await counter.owner.close()
        await counter.owner.close()
        return counter

    counter = asyncio.run(use())
    assert len(counter.threads) == 1 and threading.get_ident() not in counter.threads and counter.shuts == 1


@pytest.mark.parametrize("place", ["work", "call"])
def test_the_first_exception_fails_everything_that_waits_and_all_that_comes(place: str) -> None:
    async def use() -> None:
        counter = Counter()
        await counter.owner.start()
        with pytest.raises(EngineDeadError, match=r"^ValueError: (thirteen|invalid literal)"):
            await (counter.wait(13) if place == "work" else counter.owner.call(lambda: int("no number")))
        for _ in range(2):
            with pytest.raises(EngineDeadError, match="ValueError"):
                await counter.owner.call(lambda: 1)
        with pytest.raises(EngineDeadError, match="ValueError"):
            counter.owner.check()
        with pytest.raises(EngineDeadError, match="ValueError"):
            await counter.wait(1)
        await counter.owner.close()
        assert counter.shuts == 1

    asyncio.run(use())


def test_what_cannot_be_built_says_why_and_is_not_taken_apart() -> None:
    async def use() -> None:
        counter = Counter(broken=True)
        with pytest.raises(EngineDeadError, match="KeyError: 'no such file'"):
            await counter.owner.start()
        await counter.owner.close()
        assert counter.shuts == 0

    asyncio.run(use())


def test_closing_fails_what_still_waits() -> None:
    async def use() -> None:
        counter = Counter()
        await counter.owner.start()
        counter.busy = lambda: False  # type: ignore[method-assign] # it will not get to it
        counter.work = lambda: None  # type: ignore[method-assign]
        call = asyncio.ensure_future(counter.wait(5))
        await counter.owner.call(lambda: None)
        await counter.owner.close()
        with pytest.raises(EngineDeadError, match="the engine was closed"):
            await call

    asyncio.run(use())
