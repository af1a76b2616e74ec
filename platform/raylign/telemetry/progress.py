"""What a person sees while a run works: a live panel on a terminal, one plain line a step elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

BARS = "▁▂▃▄▅▆▇█"
REWARD = ("reward/mean", "eval/reward/mean")
# label, the metrics that it may be (first found wins), format
SHOWN: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("reward", REWARD, ".3f"),
    ("accuracy", ("eval/score",), ".3f"),
    ("loss", ("loss/policy", "loss/ce", "loss"), ".4f"),
    ("KL", ("kl", "approx_kl_k3"), ".1e"),
    ("entropy", ("entropy",), ".3f"),
    ("length", ("length/mean", "eval/length/mean"), ".1f"),
    ("gap", ("publish/gap", "publish/gap_mean", "sampler_gap"), ".1e"),
    ("tokens/s", ("tokens/per_second",), ",.0f"),
)


class Display(Protocol):
    """One way to show progress."""

    def start(self, stage: str, total: int) -> None:
        """A stage begins."""

    def step(self, done: int, metrics: Mapping[str, float]) -> None:
        """`done` steps of the stage are finished."""

    def note(self, text: str) -> None:
        """A line for the reader, kept on the screen."""

    def close(self) -> None:
        """Leave the terminal as it was found."""


class Progress:
    """What the stages of a run tell a person.

    mode: auto (rich on a terminal, else plain) | rich | plain | none. stream: standard output by default.
    """

    def __init__(self, mode: str, folder: Path, stream: TextIO | None = None) -> None:
        stream = stream or sys.stdout
        self._folder = folder
        self._stage = ""
        self._display: Display
        if mode == "none":
            self._display = Silence()
        elif mode == "rich" or (mode == "auto" and stream.isatty()):
            self._display = Panels(stream)
        else:
            self._display = Lines(stream)
        self.note(f"run folder: {folder}")

    def step(self, stage: str, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Step number `step` (from 0) of `total` in a stage is finished."""
        if stage != self._stage:
            self._stage = stage
            self._display.start(stage, total)
        self._display.step(step + 1, metrics)

    def note(self, text: str) -> None:
        """A line for the reader, kept on the screen."""
        self._display.note(text)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The last words: accuracy by stage, the model, the report."""
        self._display.close()
        scores = {
            name.removesuffix("/eval/score"): value
            for name, value in summary.get("metrics", {}).items()
            if name.endswith("/eval/score")
        }
        if scores:
            listed = [f"{stage} {value:.1%}" for stage, value in scores.items()]
            self.note(f"held-out score: {' -> '.join(listed)}")
        if "model" in summary:
            self.note(f"model:  {summary['model']}")
        self.note(f"report: {self._folder / 'report.html'}")

    def close(self) -> None:
        """Leave the terminal as it was found."""
        self._display.close()


def shown_values(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """(label, formatted value) of the metrics that a person follows."""
    shown = []
    for label, names, form in SHOWN:
        value = first_of(metrics, names)
        if value is not None:
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

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.started = self._last = time.monotonic()
        self._recent: deque[float] = deque(maxlen=10)

    def tick(self, done: int) -> None:
        now = time.monotonic()
        if self.done:  # the first step heard of is the one that started the clock
            self._recent.append((now - self._last) / max(1, done - self.done))
        self._last, self.done = now, done

    @property
    def seconds_per_step(self) -> float:
        return sum(self._recent) / len(self._recent) if self._recent else 0.0

    @property
    def eta(self) -> str:
        left = self.total - self.done
        return duration(left * self.seconds_per_step) if self._recent and left > 0 else "-"


class Silence:
    """Shows nothing."""

    def start(self, stage: str, total: int) -> None:
        """Nothing."""

    def step(self, done: int, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines:
    """One line a step, no carriage returns: for files, CI and job logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stage = ""
        self._clock = _Clock(0)

    def start(self, stage: str, total: int) -> None:
        """Remember the stage; its first line says the rest."""
        self._stage, self._clock = stage, _Clock(total)

    def step(self, done: int, metrics: Mapping[str, float]) -> None:
        """A line of numbers."""
        self._clock.tick(done)
        total = f"/{self._clock.total}" if self._clock.total else ""
        values = "  ".join(f"{label} {value}" for label, value in shown_values(metrics))
        pace = self._clock.seconds_per_step
        tail = f"  {pace:.2f} s/step  eta {self._clock.eta}" if pace else ""
        self.note(f"{self._stage} {done}{total}  {values}{tail}")

    def note(self, text: str) -> None:
        """One line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left to do."""


class Panels:
    """A panel that is redrawn in place: stage, bar, numbers, sparkline of the reward."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._live: Live | None = None
        self._stage = ""
        self._clock = _Clock(0)
        self._values: list[tuple[str, str]] = []
        self._rewards: deque[float] = deque(maxlen=400)

    def start(self, stage: str, total: int) -> None:
        """A new panel; the last one stays above it."""
        self.close()
        self._stage, self._clock, self._values = stage, _Clock(total), []
        self._rewards.clear()
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=4)
        self._live.start()

    def step(self, done: int, metrics: Mapping[str, float]) -> None:
        """New numbers."""
        self._clock.tick(done)
        self._values = shown_values(metrics)
        reward = first_of(metrics, REWARD)
        if reward is not None:
            self._rewards.append(reward)

    def note(self, text: str) -> None:
        """One line above the panel."""
        self._console.print(text, markup=False, highlight=False)

    def close(self) -> None:
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
        body = [head, *([grid] if self._values else []), *([line] if self._rewards else [])]
        return Panel(Group(*body), title=self._stage, title_align="left", border_style="cyan")
