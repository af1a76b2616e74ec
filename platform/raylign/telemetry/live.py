"""Progress on a terminal: lines that stay, and below them lines that are redrawn in place and leave nothing behind."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raylign.telemetry.lines import LineProgress, Start
from raylign.telemetry.shown import REWARD, duration, first_of, shown_values, sparkline

STYLES = {"warning": "bold yellow", "alarm": "bold red"}  # of lines that begin so
MARGIN = 6  # columns that the live lines leave free, so that the terminal's own ^C does not wrap them


class RichProgress(LineProgress):
    """The lines of a log, and live: what is being started, the stage's bar, its present numbers, its reward so far."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._console = Console(file=stream, highlight=False)
        self._live: Live | None = None
        self._running = False  # a stage takes steps
        self._values: list[tuple[str, str]] = []
        self._rewards: deque[float] = deque(maxlen=400)
        self._times: list[str] = []  # of what was started since the last step

    def start(self, stage: str, total: int, done: int = 0) -> None:
        """A new stage."""
        super().start(stage, total, done)
        self._values, self._running = [], True
        self._rewards.clear()
        self._show()

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """New numbers."""
        self._tell_times()
        self._values = shown_values(metrics)
        reward = first_of(metrics, REWARD)
        if reward is not None:
            self._rewards.append(reward)
        super().step(step, metrics)

    def stop(self) -> None:
        """The live lines go, what was said stays."""
        super().stop()
        self._tell_times()
        self._running = False
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _write(self, text: str) -> None:
        for line in text.split("\n"):
            style = next((style for word, style in STYLES.items() if line.startswith((f"{word} ", f"{word}:"))), "")
            self._console.print(Text(line, style=style), soft_wrap=True)

    def _begun(self) -> None:
        self._show()

    def _started(self, start: Start, told: bool) -> None:
        if told:
            self._times.append(start.done())

    def _tell_times(self) -> None:
        """One line for all that was started."""
        times, self._times = self._times, []
        if times:
            self._write(f"started {', '.join(times)}")

    def _show(self) -> None:
        if self._live is None:
            self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=4, transient=True)
            self._live.start()

    def _render(self) -> RenderableType:
        lines: list[RenderableType] = []
        if starts := list(self._starts):
            named = " · ".join(f"{start} {start.seconds:.0f} s" for start in starts)
            lines.append(self._cut(Text(f"starting {named}", style="cyan")))
        if self._running:
            lines += [self._bar(), self._cut(self._numbers())]
        if self._running and self._rewards:
            width = max(20, self._console.width - MARGIN - 8)
            lines.append(self._cut(Text(f"reward {sparkline(self._rewards, width)}", style="green")))
        return Group(*lines)

    def _bar(self) -> Table:
        clock = self._clock
        count = f"{clock.done}/{clock.total}" if clock.total else str(clock.done)
        spent = duration(time.monotonic() - clock.started)
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=clock.total or None, completed=clock.done, width=20, pulse=not clock.total)
        pace, left = f"{clock.seconds_per_step:.2f} s/step", f"{spent} spent, {clock.eta} left"
        head.add_row(Text(self._stage, style="bold cyan"), bar, f"step {count}", pace, left)
        return head

    def _numbers(self) -> Text:
        numbers = Text()
        for label, value in self._values:
            numbers.append(f"{label} ", style="dim").append(value, style="bold").append("  ")
        return numbers

    def _cut(self, text: Text) -> Text:
        text.truncate(max(20, self._console.width - MARGIN), overflow="ellipsis")
        return text
