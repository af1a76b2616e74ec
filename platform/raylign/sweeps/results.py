"""The table of a sweep: printed, and kept as results.csv and results.json in its folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from raylign.run_folder import write_atomically
from raylign.sweeps.points import Point, best_of, measured, metrics_of
from raylign.telemetry.shown import duration
from raylign.telemetry.table import table


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The points in order, and what they are compared by.

    Example: ``Results(folder=base, points=points, metric="after/eval/score", direction="maximize").render()``
    """

    folder: Path
    points: Sequence[Point]
    metric: str
    direction: str

    def render(self) -> str:
        """The table and a line about the best point."""
        rows: list[list[object]] = []
        for point in self.points:
            status = "-" if point.status is None else str(point.status)
            value = "-" if point.value is None else f"{point.value:.4g}"
            seconds = "-" if point.seconds is None else duration(point.seconds)
            rows.append([point.name, " ".join(point.varied), status, seconds, value])
        return f"{table(['point', 'settings', 'exit', 'time', self.metric], rows)}\n{self._best()}"

    def write(self) -> None:
        """results.csv (a column a varied setting) and results.json."""
        best = best_of(self.points, self.direction)
        points: list[dict[str, Any]] = [
            {
                "point": point.name,
                "settings": dict(text.split("=", 1) for text in point.varied),
                "overrides": point.overrides,
                "status": point.status,
                "seconds": None if point.seconds is None else round(point.seconds, 1),
                "value": point.value,
            }
            for point in self.points
        ]
        summary = {"metric": self.metric, "direction": self.direction, "best": best.name if best else None}
        write_atomically(
            self.folder / "results.json", orjson.dumps(summary | {"points": points}, option=orjson.OPT_INDENT_2)
        )
        keys = list(dict.fromkeys(key for entry in points for key in entry["settings"]))
        stream = io.StringIO()
        writer = csv.writer(stream)
        writer.writerow(["point", *keys, "status", "seconds", self.metric])
        for entry in points:
            settings = [entry["settings"].get(key, "") for key in keys]
            writer.writerow([entry["point"], *settings, entry["status"], entry["seconds"], entry["value"]])
        write_atomically(self.folder / "results.csv", stream.getvalue().encode())

    def _best(self) -> str:
        best = best_of(self.points, self.direction)
        if best is not None:
            settings = " ".join(best.varied)
            return f"best: {best.name}  {self.metric} {best.value:.4g}  {settings}  ({best.folder})"
        ended = [point for point in self.points if point.status == 0]
        if not ended:
            return "best: no point has ended well"
        there = metrics_of(ended[0].folder)
        return f"best: no point measured sweep.metric={self.metric}; there are {', '.join(there) or 'none'}"


def judge(point: Point, metric: str) -> None:
    """Fill in what an ended point is worth."""
    point.value = measured(point.folder, metric) if point.status == 0 else None
