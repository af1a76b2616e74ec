"""Every stage of a run as a row of a table: what it is, starts from, reads, how far it goes, and what it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from raylign.config.resolve import ResolvedStage, Run
from raylign.telemetry.table import table

BATCHES = {"batch_size": "rows", "batch_pairs": "pairs"}  # what a stage without samples counts a step by


def stage_table(run: Run) -> str:
    """In the order in which they run."""
    rows, model, data = [], "model.path" if run.config.model.path else "the tiny model", _source(run)
    for stage in run.stages:
        start, reads = stage.config.start or model, stage.config.data or data
        asks = ", ".join(sorted(stage.roles)) or "-"
        left = ", ".join(stage.leaves) or "-"
        rows.append(
            [stage.name, stage.cls.__name__, start, reads, asks, *_size(stage), tokens_at_most(stage, run), left]
        )
        if "learner" in stage.roles and stage.cls.of_policy:
            model = f"@{stage.name}"
    headers = ["stage", "kind", "starts from", "reads", "asks", "steps", "a step", "tokens at most", "leaves"]
    return table(headers, rows)


def tokens_at_most(stage: ResolvedStage, run: Run) -> str:
    """Of all samples of a stage, if each ran to its limit; where it asks all the prompts that there are, of one."""
    asked, config = stage.cls.asks(stage.config), run.config
    if asked is None:
        return "-"
    one = asked.samples * (config.data.max_prompt_tokens + (asked.max_tokens or config.rollout.sampling.max_tokens))
    return f"{asked.prompts * one:,}" if asked.prompts else f"{one:,} a prompt"


def _source(run: Run) -> str:
    """What gives the run's rows, by the last part of its name."""
    data = run.config.data
    made = data.task or str(data.generator.get("_target_", "-")).rpartition(".")[2]
    return Path(data.path).name if data.path else made


def _size(stage: ResolvedStage) -> tuple[str, str]:
    """Steps of a stage, and what one of them takes."""
    settings: Mapping[str, object] = vars(stage.config)
    if stage.batch:
        return str(stage.batch.steps), f"{stage.batch.prompts_per_step} prompts x {stage.batch.group_size}"
    steps = str(settings["steps"]) if settings.get("steps") else "1"
    if not settings.get("steps") and settings.get("epochs"):
        steps = f"{settings['epochs']:g} epoch(s)"
    unit = next((f"{settings[name]} {what}" for name, what in BATCHES.items() if name in settings), "")
    if "prompts_per_step" in settings:
        unit = f"{settings['prompts_per_step']} prompts x {settings['group_size']}"
    elif "samples" in settings:
        unit = f"{settings.get('prompts') or 'all'} prompts x {settings['samples']}"
    return steps, unit or "-"
