"""Results of stages, and the failures among them that raised no exception: non-finite losses, lost samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from raylign.contracts import StageResult
from raylign.errors import RewardError, RunError


def checked(name: str, result: object) -> StageResult:
    """What a stage returned. Raises RunError where that is no result, and the stage does not count as finished."""
    if not isinstance(result, StageResult):
        raise RunError(f"stages.{name} returned {type(result).__name__}; fix: return a raylign.contracts.StageResult")
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


def lesson(stage: str, steps: int, version: int, taught: int) -> str:
    """What must be said of steps that learned nothing from their rewards; empty where some did.

    version: policies that were published after an update; taught: steps whose scores said what to change. Raises
    RewardError when there was no update at all: the model is the one that the stage started from.
    """
    if not version:
        raise RewardError(
            f"{stage}: none of {steps} steps left a group to learn from, the model is as it was; "
            "fix: see groups/* and missing/* in metrics.jsonl: prompts that are always or never solved teach nothing"
        )
    if taught:
        return ""
    return (
        f"{stage}: NOTHING LEARNED: in none of {steps} steps did the scores of a group differ; "
        "fix: see groups/equal and reward/* in metrics.jsonl: prompts that are sometimes solved, larger groups, "
        "or a reward that tells these responses apart"
    )


def stage_summary(results: Mapping[str, StageResult]) -> dict[str, Any]:
    """Metrics of all stages as ``<stage>/<metric>``."""
    summary: dict[str, Any] = {}
    for stage, result in results.items():
        summary |= {f"{stage}/{name}": value for name, value in result.metrics.items()}
    return summary
