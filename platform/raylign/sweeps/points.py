"""The points of a sweep: what a sampler hands out, what a launcher runs, and what a point is worth afterwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from raylign.run_folder import FINISHED
from raylign.telemetry.recorder import read_lines


@dataclass(slots=True, kw_only=True)
class Point:
    """One combination and its run.

    Example: ``Point(number=2, overrides=["recipe=grpo", "seed=3"], varied=["seed=3"], folder=Path("multirun/a/002"))``
    """

    number: int
    overrides: list[str]  # all of them, without the sweep's own
    varied: list[str]
    folder: Path
    status: int | None = None  # exit status; None: not ended
    seconds: float | None = None  # in this call of the sweep; None: it did not run in it
    value: float | None = None  # of the sweep's metric; None: not measured
    over: bool = False  # ended in an earlier call of the sweep, whatever it came to: not run again

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.folder.name

    @property
    def finished(self) -> bool:
        """Whether its run has finished, in this sweep or an earlier one."""
        return (self.folder / FINISHED).exists()


class Handle(Protocol):
    """A point that runs."""

    def poll(self) -> int | None:
        """The exit status, None while it runs."""

    def stop(self) -> None:
        """Ask it to save itself and end; returns at once."""


def measured(folder: Path, metric: str) -> float | None:
    """A metric ``<stage>/<name>`` of a run: from the summaries of its stages, else the last value that was recorded."""
    summary = folder / FINISHED
    if summary.exists():
        value = orjson.loads(summary.read_bytes()).get("metrics", {}).get(metric)
        if _number(value):
            return float(value)
    stage, _, name = metric.partition("/")
    rows = [row for row in read_lines(folder / "metrics.jsonl") if row.get("stage") == stage and _number(row.get(name))]
    return float(rows[-1][name]) if rows else None


def metrics_of(folder: Path) -> list[str]:
    """Every metric that `measured` would find in a run."""
    names = {
        f"{row['stage']}/{name}"
        for row in read_lines(folder / "metrics.jsonl")
        for name, value in row.items()
        if name not in ("step", "time") and _number(value)
    }
    return sorted(names)


def best_of(points: Sequence[Point], direction: str) -> Point | None:
    """The point with the best value among those that ended well; None when none was measured."""
    ended = [point for point in points if point.status == 0 and point.value is not None]
    sign = 1 if direction == "maximize" else -1
    return max(ended, key=lambda point: sign * (point.value or 0.0), default=None)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
