"""Where the seconds of a step went."""

from __future__ import annotations

import time


class StepClock:
    """Laps of one step in seconds, as ``time/<name>``."""

    def __init__(self) -> None:
        self.started = self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """The time since the last lap went into `name`."""
        now = time.perf_counter()
        self.laps[f"time/{name}"] = now - self._last
        self._last = now

    @property
    def total(self) -> float:
        """Seconds of all laps."""
        return self._last - self.started


class BusyShare:
    """How long engines stood still, from how long they say that they have worked in all."""

    def __init__(self) -> None:
        self._worked = 0.0

    def idle(self, busy_s: float, engines: int, seconds: float) -> float:
        """Share of the last `seconds` in which the engines did nothing."""
        share = (busy_s - self._worked) / max(seconds * engines, 1e-9)
        self._worked = busy_s
        return 1.0 - min(1.0, share)
