"""Every stage of a run as a row of a table: what it is, starts from, reads, and how far it goes."""

from __future__ import annotations

from collections.abc import Mapping

from raylign.config.resolve import ResolvedStage, Run
from raylign.telemetry.table import table

BATCHES = {"batch_size": "rows", "batch_pairs": "pairs"}  # what a stage without samples counts a step by


def stage_table(run: Run) -> str:
    """In the order in which they run."""
    rows, model = [], "model.path" if run.config.model.path else "the tiny model"
    for stage in run.stages:
        start = str(stage.config.start or "")
        rows.append(
            [stage.name, stage.cls.__name__, start or model, ", ".join(sorted(stage.roles)) or "-", *_size(stage)]
        )
        if "learner" in stage.roles:
            model = f"@{stage.name}"
    return table(["stage", "kind", "starts from", "asks", "steps", "a step"], rows)


def _size(stage: ResolvedStage) -> tuple[str, str]:
    """Steps of a stage, and what one of them takes."""
    settings: Mapping[str, object] = vars(stage.config)
    if stage.batch:
        return str(stage.batch.steps), f"{stage.batch.prompts_per_step} prompts x {stage.batch.group_size}"
    steps = str(settings["steps"]) if settings.get("steps") else "1"
    if not settings.get("steps") and settings.get("epochs"):
        steps = f"{settings['epochs']:g} epoch(s)"
    unit = next((f"{settings[name]} {what}" for name, what in BATCHES.items() if name in settings), "")
    if "samples" in settings:
        unit = f"{settings.get('prompts') or 'all'} prompts x {settings['samples']}"
    return steps, unit or "-"
