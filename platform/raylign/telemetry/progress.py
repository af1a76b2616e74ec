"""Progress display: a live panel on a terminal, one plain line a step elsewhere."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

BARS = "▁▂▃▄▅▆▇█"
REWARD = ("reward/mean", "eval/reward/mean")
# label, the metrics that it may be (the first that is there), format
SHOWN: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("reward", REWARD, ".3f"),
    ("score", ("eval/score",), ".3f"),
    ("loss", ("loss/policy", "loss/ce", "loss"), ".4f"),
    ("ref KL", ("ref_kl",), ".1e"),
    ("step KL", ("approx_kl_k3",), ".1e"),
    ("entropy", ("entropy",), ".3f"),
    ("length", ("length/mean", "eval/length/mean"), ".1f"),
    ("gap", ("sampler_gap",), ".1e"),
    ("missing", ("missing/share", "eval/missing/share"), ".1%"),
    ("tokens/s", ("tokens/per_second",), ",.0f"),
)


class Progress(Protocol):
    """A display of a run's stages and steps."""

    def start(self, stage: str, total: int, done: int = 0) -> None:
        """A stage begins; `total` steps (0: unknown), `done` of them already behind it."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Step number `step` of the stage is finished."""

    def message(self, text: str) -> None:
        """One line for the reader, kept on the screen."""

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


def shown_values(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """(label, formatted value) of the metrics that a person follows."""
    shown = []
    for label, names, form in SHOWN:
        value = first_of(metrics, names)
        if value is not None and (value or label != "missing"):  # what nothing is missing from needs no word
            shown.append((label, format(value, form)))
    return shown


def first_of(metrics: Mapping[str, float], names: Sequence[str]) -> float | None:
    """The first of some metrics that is there."""
    return next((metrics[name] for name in names if name in metrics), None)


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The last values as bars, lowest to highest."""
    recent = [value for value in values if math.isfinite(value)][-width:]
    if not recent:
        return ""
    low, high = min(recent), max(recent)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in recent)


def duration(seconds: float) -> str:
    """``1:02:03``, ``4:05`` or ``7 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


class _Clock:
    """Steps done, mean seconds of the last ten, time left."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done = total, done
        self.started = self._last = time.monotonic()
        self._recent: deque[float] = deque(maxlen=10)

    def tick(self, step: int) -> None:
        now = time.monotonic()
        self._recent.append(now - self._last)
        self._last, self.done = now, step

    @property
    def seconds_per_step(self) -> float:
        return sum(self._recent) / len(self._recent) if self._recent else 0.0

    @property
    def eta(self) -> str:
        left = self.total - self.done
        return duration(left * self.seconds_per_step) if self._recent and left > 0 else "-"


class LoggedProgress:
    """Another display, whose messages and steps also go to the process's log."""

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

    def stop(self) -> None:
        """Nothing."""


class PlainProgress:
    """One line a step, no carriage returns: for files, CI and job logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stage = ""
        self._clock = _Clock(0, 0)

    def start(self, stage: str, total: int, done: int = 0) -> None:
        """A line that says so."""
        self._stage, self._clock = stage, _Clock(total, done)
        self.message(f"stage {stage}: {total or '?'} steps" + (f", {done} done before" if done else ""))

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """A line of numbers."""
        self._clock.tick(step)
        total = f"/{self._clock.total}" if self._clock.total else ""
        values = "  ".join(f"{label} {value}" for label, value in shown_values(metrics))
        tail = f"{self._clock.seconds_per_step:.2f} s/step  eta {self._clock.eta}"
        self.message(f"{self._stage} {step}{total}  {values}  {tail}")

    def message(self, text: str) -> None:
        """One line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def stop(self) -> None:
        """Nothing is left to do."""


class RichProgress:
    """A panel that is redrawn in place: stage, bar, numbers, sparkline of the reward."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._live: Live | None = None
        self._stage = ""
        self._clock = _Clock(0, 0)
        self._values: list[tuple[str, str]] = []
        self._rewards: deque[float] = deque(maxlen=400)

    def start(self, stage: str, total: int, done: int = 0) -> None:
        """A new panel; the last one stays above it."""
        self.stop()
        self._stage, self._clock, self._values = stage, _Clock(total, done), []
        self._rewards.clear()
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=4)
        self._live.start()

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """New numbers."""
        self._clock.tick(step)
        self._values = shown_values(metrics)
        reward = first_of(metrics, REWARD)
        if reward is not None:
            self._rewards.append(reward)

    def message(self, text: str) -> None:
        """One line above the panel."""
        self._console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        """The last state of the panel stays on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> Panel:
        clock = self._clock
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=clock.total or None, completed=clock.done, width=30, pulse=not clock.total)
        count = f"{clock.done}/{clock.total}" if clock.total else str(clock.done)
        spent = duration(time.monotonic() - clock.started)
        head.add_row(bar, f"step {count}", f"{clock.seconds_per_step:.2f} s/step", f"{spent} spent, {clock.eta} left")
        grid = Table.grid(padding=(0, 3))
        grid.add_row(*(Text(label, style="dim") for label, _ in self._values))
        grid.add_row(*(Text(value, style="bold") for _, value in self._values))
        line = Text(f"reward {sparkline(self._rewards, max(20, self._console.width - 14))}", style="green")
        body: list[RenderableType] = [head, *([grid] if self._values else []), *([line] if self._rewards else [])]
        return Panel(Group(*body), title=self._stage, title_align="left", border_style="cyan")
