"""Contents of a run folder, read once for its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import yaml

from raylign.run_folder import FINISHED, flatten
from raylign.telemetry.recorder import read_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The small files of a run folder, as far as they exist; rollouts are read apart.

    Example: ``Records.read(Path("outputs/grpo-tiny-seed3")).metrics[-1]["loss"]``
    """

    folder: Path
    metrics: list[dict[str, Any]]  # one a step
    events: list[dict[str, Any]]  # phases included
    resolved: dict[str, Any]
    environment: dict[str, Any]
    overrides: list[str]
    finished: bool

    @classmethod
    def read(cls, folder: Path) -> Records:
        """All of it; a line that a kill cut off is left out."""
        return cls(
            folder=folder,
            metrics=read_lines(folder / "metrics.jsonl"),
            events=sorted(read_lines(folder / "events.jsonl"), key=lambda event: float(event["time"])),
            resolved=yaml.safe_load(_text(folder / "resolved.yaml")) or {},
            environment=orjson.loads(_text(folder / "environment.json") or "{}"),
            overrides=_text(folder / "overrides.txt").split("\n")[:-1],
            finished=(folder / FINISHED).exists(),
        )

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.absolute().name

    @property
    def stages(self) -> list[str]:
        """Names of the stages that recorded anything, in order."""
        named = [event["stage"] for event in self.events if event["kind"] == "stage_started"]
        return list(dict.fromkeys([*named, *(str(line["stage"]) for line in self.metrics)]))

    @property
    def started(self) -> float:
        """Time of the first record; 0 without any."""
        times = [*(line["time"] for line in self.metrics[:1]), *(event["time"] for event in self.events[:1])]
        return float(min(times, default=0.0))

    @property
    def ended(self) -> float:
        """Time of the last record; 0 without any."""
        times = [*(line["time"] for line in self.metrics[-1:]), *(event["time"] for event in self.events[-1:])]
        return float(max(times, default=0.0))

    @property
    def worked(self) -> float:
        """Seconds from the first record to the last, without those between a process and the one that continued it."""
        begins = {float(event["time"]) for event in self.events if event["kind"] == "headline"}
        times = sorted(float(record["time"]) for record in (*self.metrics, *self.events))
        return sum(later - earlier for earlier, later in pairwise(times) if later not in begins)

    def settings(self) -> dict[str, str]:
        """Dotted key -> value."""
        return {key: _plain(value) for key, value in flatten(self.resolved).items()}

    def machine(self) -> dict[str, str]:
        """Versions, commit and machine."""
        facts = {key: str(value) for key, value in self.environment.items() if not isinstance(value, Mapping)}
        git = self.environment.get("git") or {}
        if git.get("sha"):
            facts["git"] = git["sha"] + (" with changes" if git.get("changed") else "")
        return facts | {key: str(value) for key, value in self.environment.get("packages", {}).items()}


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
