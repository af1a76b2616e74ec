"""What SIGTERM and Ctrl-C do to a run: the first stops it in order, a later one ends the process at once."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from raylign.recipes.stages.context import RunContext, StopRequested

SIGNALS = (signal.SIGTERM, signal.SIGINT)
NOTHING_DONE = "stopped before a step was done"
ECHO_S = 0.5  # one wish to stop may come twice: to the process, and to the group that `make` and `timeout` end with it


@contextmanager
def stopping_on_signals(context: RunContext) -> Iterator[None]:
    """While a stage works: the first signal stops it after the current step, saved, or at once where the stage has done
    none yet: its engines may take minutes to start, and its data seconds to be read.

    For the task that runs the stages, in the main thread. Raises StopRequested in it, or KeyboardInterrupt from a
    signal later than `ECHO_S` after the first.
    """
    stopping = _Stopping(context)
    before = {number: signal.signal(number, stopping.signalled) for number in SIGNALS}
    try:
        yield
    except asyncio.CancelledError:
        if stopping.cancelled:
            raise StopRequested(NOTHING_DONE) from None
        raise
    finally:
        stopping.over = True
        for number, handler in before.items():
            signal.signal(number, handler)


class _Stopping:
    """Python's own handlers, not the loop's: those wait for whatever keeps the loop busy."""

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.asked: float | None = None  # when, by a signal; an alarm may have asked for the same, which is no signal
        self.cancelled = self.over = False
        self.loop, self.work = asyncio.get_running_loop(), asyncio.current_task()

    def signalled(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked is not None:
            if now - self.asked < ECHO_S:
                return
            raise KeyboardInterrupt
        self.asked, self.context.stop_requested = now, True
        if self.context.recorded:
            self.context.progress.message("stopping after this step; once more to stop at once")
            return
        self.context.progress.message("stopping: what is being started is ended; once more to stop at once")
        self.loop.call_soon_threadsafe(self._cancel)
        if asyncio.current_task(self.loop) is self.work:  # it reads data, or makes actors: the loop has to wait for it
            raise StopRequested(NOTHING_DONE)

    def _cancel(self) -> None:
        if self.work is not None and not self.over:
            self.cancelled = True
            self.work.cancel()
