"""How a stage goes on: seconds a step, time left, and which of its steps get a line of their own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

from raylign.telemetry.shown import duration, evaluated

LINES = 25  # of one stage, besides those of its evaluations
SILENT_S = 600.0  # a log that says nothing for so long looks like a run that hangs


class Clock:
    """Steps done, mean seconds of the last ten, time left."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done = total, done
        self.started = self._last = time.monotonic()
        self._recent: deque[float] = deque(maxlen=10)

    def tick(self, step: int) -> None:
        """Step number `step` ended now."""
        now = time.monotonic()
        self._recent.append(now - self._last)
        self._last, self.done = now, step

    @property
    def seconds_per_step(self) -> float:
        """0 before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else 0.0

    @property
    def eta(self) -> str:
        """Time left; a dash where it is not known."""
        left = self.total - self.done
        return duration(left * self.seconds_per_step) if self._recent and left > 0 else "-"


class Thinning:
    """Which steps of a stage are shown: the first, the last, those with an evaluation, one every ten minutes, and in
    between evenly no more than `LINES`. Where nobody knows how many steps there will be, each gap is a quarter of the
    steps before it.
    """

    def __init__(self, total: int, done: int = 0) -> None:
        self._total, self._before = total, done
        self._shown: int | None = None  # the step that was shown last
        self._at = time.monotonic()

    def shows(self, step: int, metrics: Mapping[str, object]) -> bool:
        """Whether step number `step` gets a line; counts as shown from then on."""
        ends = self._shown is None or bool(self._total and step >= self._total)
        silent = time.monotonic() - self._at >= SILENT_S
        if not (ends or silent or evaluated(metrics) or step - (self._shown or 0) >= self._gap(step)):
            return False
        self._shown, self._at = step, time.monotonic()
        return True

    def _gap(self, step: int) -> int:
        if self._total:
            return max(1, -(-(self._total - self._before) // LINES))
        return max(1, (step - self._before) // 4)
