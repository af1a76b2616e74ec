"""What a stage leaves, and when what it did was a failure that no exception told of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from raylign.errors import RunError
from raylign.telemetry.progress import Progress
from raylign.telemetry.recorder import Recorder


def checked(name: str, result: Mapping[str, Any]) -> Mapping[str, Any]:
    """A stage's result, if it holds what every stage leaves: `steps` and `metrics`. Raises RunError, and the stage does
    not count as finished.
    """
    absent = [key for key in ("steps", "metrics") if key not in result]
    if absent:
        raise RunError(f"stages.{name} returned no {' and no '.join(absent)}; fix: return both")
    return result


def refuse_lost(stage: str, step: int, metrics: Mapping[str, float]) -> None:
    """Raises RunError once a loss or its gradient is not finite: every weight is, or will be, lost."""
    for name in ("loss", "grad_norm"):
        value = metrics.get(name, 0.0)
        if not math.isfinite(value):
            raise RunError(
                f"{stage}: {name} of step {step} is {value}, the model is lost; fix: the same command with a lower "
                "learning rate in another run.dir, or look in metrics.jsonl for what was not finite first"
            )


def say_layout(recorder: Recorder, progress: Progress, role: str, note: str) -> None:
    """Let a model that is not computed as fast as others show, where whoever waits for it looks."""
    if note:
        recorder.event("layout", role=role, note=note)
        progress.message(f"{role}: {note}")


def stage_summary(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Metrics of all stages as ``<stage>/<metric>``."""
    found: dict[str, Any] = {}
    for stage, result in results.items():
        found |= {f"{stage}/{name}": value for name, value in result.get("metrics", {}).items()}
    return found
