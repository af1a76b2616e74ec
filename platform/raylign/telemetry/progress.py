"""What a person sees of a run: live lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, TextIO

from raylign.telemetry.lines import PlainProgress
from raylign.telemetry.live import RichProgress
from raylign.telemetry.shown import shown_values


class Progress(Protocol):
    """A display of a run's stages and steps."""

    def start(self, stage: str, total: int, done: int = 0) -> None:
        """A stage begins; `total` steps (0: unknown), `done` of them already behind it."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Step number `step` of the stage is finished."""

    def message(self, text: str) -> None:
        """One line for the reader, kept on the screen."""

    def starting(self, what: str, ready: Callable[[], int] | None = None, of: int = 0) -> AbstractContextManager[None]:
        """Shown as being started while the block lasts, then with its seconds. ready: how many of `of` are."""

    def stop(self) -> None:
        """Leave the terminal as it was found."""


def make_progress(mode: str = "auto", stream: TextIO | None = None) -> Progress:
    """mode: auto (by terminal) | rich | plain | none. stream: standard output by default."""
    stream = stream or sys.stdout
    if mode == "none":
        return SilentProgress()
    if mode == "rich" or (mode == "auto" and stream.isatty()):
        return RichProgress(stream)
    return PlainProgress(stream)


class LoggedProgress:
    """Another display; messages, starts and every step also go to the process's log."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._log = logging.getLogger("raylign.progress")
        self._of = ""

    def start(self, stage: str, total: int, done: int = 0) -> None:
        """Logged as a line."""
        self._of = stage
        self._log.info("stage %s: %s steps, %d done before", stage, total or "?", done)
        self._shown.start(stage, total, done)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logged as a line of numbers."""
        values = "  ".join(f"{label} {value}" for label, value in shown_values(metrics))
        self._log.info("%s %d  %s", self._of, step, values)
        self._shown.step(step, metrics)

    def message(self, text: str) -> None:
        """Logged as it is."""
        self._log.info("%s", text)
        self._shown.message(text)

    @contextmanager
    def starting(self, what: str, ready: Callable[[], int] | None = None, of: int = 0) -> Iterator[None]:
        """Logged at its begin and at its end."""
        begun = time.monotonic()
        self._log.info("starting %s", what)
        with self._shown.starting(what, ready, of):
            yield
        self._log.info("started %s in %.1f s", what, time.monotonic() - begun)

    def stop(self) -> None:
        """Of the display only."""
        self._shown.stop()


class SilentProgress:
    """Shows nothing."""

    def start(self, stage: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""

    def starting(self, what: str, ready: Callable[[], int] | None = None, of: int = 0) -> AbstractContextManager[None]:
        """Nothing."""
        return nullcontext()

    def stop(self) -> None:
        """Nothing."""
