"""Run a recipe: its stages in order, each picking up the model of the one before it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from typing import Any

from raylign.cluster import connect, shutdown
from raylign.placement import Placement
from raylign.plan import plan_of
from raylign.recipes.stages.context import RunContext, StopRequested, stage_summary
from raylign.telemetry.progress import Progress
from raylign.telemetry.recorder import Recorder
from raylign.telemetry.report import write_report

from raylign.config.build import build
from raylign.config.schema import Config
from raylign.run_folder import RunFolder

STOPPED = 3  # exit status of a run that saved itself on a signal


def train(cfg: Config, resolved: Mapping[str, Any]) -> int:
    """Run all stages of a validated configuration; returns the exit status. Finished stages are not repeated."""
    plan = plan_of(cfg)
    folder = RunFolder.open(cfg, resolved)
    recorder = Recorder(folder.path, cfg, resolved)
    progress = Progress(cfg.telemetry.progress, folder.path)
    try:
        cluster = connect(cfg.cluster, plan)
        plan.check(cluster.resources)
        placement = Placement.create(plan, cfg.cluster.strategy, cfg.cluster.ready_timeout_s, folder.path.name)
        context = RunContext(cfg, folder, recorder, progress, placement)
        summary = asyncio.run(_stages(context))
        recorder.summary(summary)
        folder.finish(summary)
        write_report(folder.path)
        progress.finish(summary)
        return 0
    except StopRequested as stop:
        progress.note(f"{stop}; the same command continues it")
        return STOPPED
    finally:
        recorder.close()
        progress.close()
        shutdown()
        folder.close()


async def _stages(context: RunContext) -> dict[str, Any]:
    _stop_on_signals(context)
    results: dict[str, dict[str, Any]] = {}
    try:
        for name, node in context.cfg.stages.items():
            result = context.folder.stage_result(name)
            if result is None:
                context.recorder.event("stage_started", stage=name, model=context.model_path)
                stage = build(node, f"stages.{name}", tuple(context.cfg.run.allow_targets), name=name)
                result = {"started_from": context.model_path, **await stage.run(context)}
                context.folder.finish_stage(name, result)
                context.recorder.event("stage_finished", stage=name, **result.get("metrics", {}))
            elif "model" in result:
                context.model_path = result["model"]
            results[name] = result
    finally:
        await context.close()
    return {"model": context.model_path, "metrics": stage_summary(results)}


def _stop_on_signals(context: RunContext) -> None:
    """The first SIGTERM or Ctrl-C stops after the current step, saved; the second ends the process at once."""
    loop = asyncio.get_running_loop()

    def request() -> None:
        if context.stop_requested:
            raise KeyboardInterrupt
        context.stop_requested = True
        context.progress.note("stopping after this step; once more to stop at once")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, request)
