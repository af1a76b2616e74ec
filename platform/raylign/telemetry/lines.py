"""Progress as lines of text: for files, CI and job logs, and what a terminal keeps above its live lines."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from raylign.telemetry.pace import Clock, Thinning
from raylign.telemetry.shown import printable, shown_values

TRIFLE_S = 0.05  # what starts sooner is not told
STILL_S = 10.0  # after which a log says what is still being started; each time twice as long


@dataclass(slots=True, eq=False)
class Start:
    """Something that is being started. ready: how many of `of` are."""

    what: str
    ready: Callable[[], int] | None = None
    of: int = 0
    since: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self.since

    def __str__(self) -> str:
        return f"{self.what} {self.ready()}/{self.of}" if self.ready is not None and self.of > 1 else self.what

    def done(self) -> str:
        """What it was, and how long it took."""
        many = f" ({self.of})" if self.of > 1 else ""
        return f"{self.what}{many} {self.seconds:.1f} s"


class LineProgress(ABC):
    """A line for every stage, message and thing that was started, and for some steps (`Thinning`)."""

    def __init__(self) -> None:
        self._stage = ""
        self._clock, self._thinning = Clock(0, 0), Thinning(0)
        self._held = ""  # the line of the last step, where it was not shown
        self._starts: list[Start] = []
        self._lock = threading.RLock()  # a signal's handler may speak in the midst of a line

    @abstractmethod
    def _write(self, text: str) -> None:
        """One line, or several, without their last line feed."""

    @abstractmethod
    def _started(self, start: Start, told: bool) -> None:
        """Something runs; told: it took long enough to be told."""

    def start(self, stage: str, total: int, done: int = 0) -> None:
        """A line that says so."""
        self._release()
        self._stage, self._clock, self._thinning = stage, Clock(total, done), Thinning(total, done)
        many = f"{total or '?'} step{'s' * (total != 1)}"
        self._write(f"stage {stage}: {many}" + (f", {done} done before" if done else ""))

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """A line of numbers, if it is the turn of this step."""
        self._clock.tick(step)
        total = f"/{self._clock.total}" if self._clock.total else ""
        values = "  ".join(f"{label} {value}" for label, value in shown_values(metrics))
        tail = f"{self._clock.seconds_per_step:.2f} s/step  eta {self._clock.eta}"
        self._held = f"{self._stage} {step}{total}  {values}  {tail}"
        if self._thinning.shows(step, metrics):
            self._release()

    def message(self, text: str) -> None:
        """A line, below the step that it came after."""
        self._release()
        self._write(printable(text))

    @contextmanager
    def starting(self, what: str, ready: Callable[[], int] | None = None, of: int = 0) -> Iterator[None]:
        """See `Progress.starting`."""
        start = Start(what, ready, of)
        self._starts.append(start)
        self._begun()
        try:
            yield
        except BaseException:
            self._starts.remove(start)  # what ended it is told by whoever it reaches
            raise
        self._starts.remove(start)
        self._started(start, told=start.seconds >= TRIFLE_S)

    @abstractmethod
    def _begun(self) -> None:
        """Something more is being started."""

    def stop(self) -> None:
        """The last step is shown."""
        self._release()

    def _release(self) -> None:
        held, self._held = self._held, ""
        if held:
            self._write(held)


class PlainProgress(LineProgress):
    """Lines without control characters. What takes long to start is told while it does."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._timer: threading.Timer | None = None

    def stop(self) -> None:
        """See `LineProgress.stop`."""
        self._wait(0)
        super().stop()

    def _write(self, text: str) -> None:
        with self._lock:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def _begun(self) -> None:
        if self._timer is None:
            self._wait(STILL_S)

    def _started(self, start: Start, told: bool) -> None:
        if told:
            self._write(f"started {start.done()}")
        if not self._starts:
            self._wait(0)

    def _wait(self, seconds: float) -> None:
        """Say after so many seconds what is still being started; 0: never."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None
            if seconds:
                self._timer = threading.Timer(seconds, self._still, (2 * seconds,))
                self._timer.daemon = True
                self._timer.start()

    def _still(self, wait: float) -> None:
        with self._lock:
            starts = list(self._starts)
            if starts and self._timer is not None:
                self._write("starting " + ", ".join(f"{start} ({start.seconds:.0f} s)" for start in starts))
                self._wait(wait)
