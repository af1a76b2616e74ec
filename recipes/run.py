"""Run a recipe from its first unfinished stage to the report."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence

from raylign.config.resolve import Run
from raylign.recipes.opening import open_run
from raylign.recipes.stage_order import run_watched
from raylign.recipes.stages.context import StopRequested
from raylign.telemetry.alarms import unheard
from raylign.telemetry.recorder import read_lines
from raylign.telemetry.report import write_report
from raylign.telemetry.summary import closing

STOPPED = 3  # exit status of a run that saved itself on a signal


def train(run: Run, overrides: Sequence[str] = ()) -> int:
    """Run all stages of a checked run; returns the exit status. Finished stages are not repeated."""
    with open_run(run, overrides) as context:
        try:
            summary = asyncio.run(run_watched(context))
        except StopRequested as stop:
            context.progress.stop()
            context.progress.message(f"{stop}; the same command continues it")
            gc.freeze()  # or the interpreter looks for garbage for a second before the prompt is back
            return STOPPED
        recorded = read_lines(context.folder.path / "metrics.jsonl")
        for name, said in unheard(run.config.alarms, run.given, recorded).items():
            context.event("alarm_unheard", said, alarm=name)
        context.folder.finish(summary)
        context.progress.stop()
        context.progress.message(closing(run, summary, write_report(context.folder.path)))
        return 0
