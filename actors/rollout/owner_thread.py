"""An object that one thread owns: others post commands to its mailbox, and get results as futures of their event loop.

    event loop ──commands──► inbox ──► owner thread: drain all, work ──one batch a turn──► futures on the loop

The object dies of the first exception that leaves a command or its work: every later call fails with that cause.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from raylign.errors import EngineDeadError


class Owned(Protocol):
    """What an owner thread calls; all of it in that thread."""

    def build(self) -> None:
        """Make the object. An exception is its death."""

    def work(self) -> None:
        """One turn of its own work, between two drains of the mailbox; nothing when there is none."""

    def busy(self) -> bool:
        """Whether `work` has something to do without another command."""

    def fail(self, death: EngineDeadError) -> None:
        """Let everything that waits for the object fail with this."""

    def shut(self) -> None:
        """Take the object apart; called once, if it was built."""


class OwnerThread:
    """The thread, its mailbox and the way back. Made and used on one event loop, except where said."""

    def __init__(self, owned: Owned, name: str) -> None:
        self._owned, self._name = owned, name
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = threading.Event()
        self._delivery: list[tuple[asyncio.Future[Any], Callable[[], Any]]] = []
        self._closing = False
        self._death: EngineDeadError | None = None
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Build the object in its thread. Raises EngineDeadError with the cause when that fails."""
        self._loop = asyncio.get_running_loop()
        ready = self.future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name=self._name, daemon=True)
        self._thread.start()
        await ready

    def future(self) -> asyncio.Future[Any]:
        """For `deliver`."""
        return self._loop.create_future()

    def check(self) -> None:
        """Raises EngineDeadError when the object is dead or closed."""
        if self._death is not None:
            raise EngineDeadError(str(self._death))

    def post(self, command: Callable[[], None]) -> None:
        """Run something in the owner thread, in the order of posting. It must not raise."""
        self._inbox.append(command)
        self._wake.set()

    async def call(self, run: Callable[[], Any]) -> Any:
        """The result of something run in the owner thread. Any exception there is the object's death."""
        self.check()
        future = self.future()

        def execute() -> None:
            try:
                if self._death is not None:
                    raise self._death
                result = run()
            except Exception as cause:  # noqa: BLE001 - whatever went wrong, the caller gets it as EngineDeadError
                self.die(cause)
                self.deliver(future, raising(self._death))
                return
            self.deliver(future, lambda: result)

        self.post(execute)
        return await future

    async def close(self) -> None:
        """End the thread; what still waits fails."""
        if self._thread is None:
            return
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)
        self._thread = None

    # -------------------------------------------------------------------------------------------- in the owner thread

    @property
    def dead(self) -> bool:
        """Whether every further call fails."""
        return self._death is not None

    def deliver(self, future: asyncio.Future[Any], result: Callable[[], Any]) -> None:
        """At the end of this turn let the event loop call `result`: what it returns or raises is the future's."""
        self._delivery.append((future, result))

    def die(self, cause: Exception) -> None:
        """From now on every call fails with EngineDeadError; causes of foreign types do not pickle, their text does."""
        if self._death is None:
            traceback.print_exception(cause)  # to the worker's log, which the error points at
            text = str(cause) if isinstance(cause, EngineDeadError) else f"{type(cause).__name__}: {cause}"
            self._death = EngineDeadError(text)
        self._owned.fail(self._death)

    def _run(self, ready: asyncio.Future[None]) -> None:
        try:
            self._owned.build()
        except Exception as cause:  # noqa: BLE001 - foreign libraries raise types that do not pickle
            self.die(cause)
            self.deliver(ready, raising(self._death))
            self._flush()
            return
        self.deliver(ready, lambda: None)
        self._flush()
        while not self._closing:
            self._wake.clear()
            while self._inbox:
                self._inbox.popleft()()
            if self._death is not None:
                self._owned.fail(self._death)
            else:
                self._work()
            self._flush()
            if not self._inbox and (self._death is not None or not self._owned.busy()):
                self._wake.wait()
        self._death = self._death or EngineDeadError("the engine was closed")
        self._owned.fail(self._death)
        self._flush()
        self._owned.shut()

    def _work(self) -> None:
        try:
            self._owned.work()
        except Exception as cause:  # noqa: BLE001 - it leaves the object in an unknown state
            self.die(cause)

    def _flush(self) -> None:
        """One wake-up of the event loop a turn, however many results there are."""
        if self._delivery:
            batch, self._delivery = self._delivery, []
            self._loop.call_soon_threadsafe(_hand_over, batch)


def _hand_over(batch: list[tuple[asyncio.Future[Any], Callable[[], Any]]]) -> None:
    for future, result in batch:
        if future.done():
            continue
        try:
            future.set_result(result())
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the one who waits for this future
            future.set_exception(error)


def raising(error: Exception | None) -> Callable[[], Any]:
    """A result that raises; a new exception each time, since many futures share the cause."""

    def result() -> Any:
        raise type(error)(str(error)) if error is not None else EngineDeadError("the engine was closed")

    return result
