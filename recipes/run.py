"""Run a recipe: its stages in order, each picking up the model of the one before it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ray.exceptions import OutOfMemoryError

from raylign.cluster import check_shared, connect, shutdown
from raylign.config.build import build
from raylign.config.describe import describe
from raylign.config.parts import Part, roles_of, stages
from raylign.config.schema import Config
from raylign.errors import OUT_OF_MEMORY, RunError
from raylign.placement import Placement
from raylign.plan import make_plan
from raylign.recipes.stages.context import RunContext, StopRequested
from raylign.recipes.stages.outcome import checked, stage_summary
from raylign.recipes.stopping import stopping_on_signals
from raylign.run_folder import RunFolder
from raylign.telemetry.progress import make_progress
from raylign.telemetry.recorder import Recorder
from raylign.telemetry.report import write_report
from raylign.telemetry.stacks import dump_stacks

STOPPED = 3  # exit status of a run that saved itself on a signal


def train(cfg: Config, resolved: Mapping[str, Any], overrides: Sequence[str] = ()) -> int:
    """Run all stages of a validated configuration; returns the exit status. Finished stages are not repeated."""
    with open_run(cfg, resolved, overrides) as context:
        try:
            summary = asyncio.run(run_stages(context))
        except StopRequested as stop:
            context.progress.stop()
            context.progress.message(f"{stop}; the same command continues it")
            gc.freeze()  # or the interpreter looks for garbage for a second before the prompt is back
            return STOPPED
        context.folder.finish(summary)
        context.progress.stop()
        context.progress.message(closing(summary, write_report(context.folder.path)))
        return 0


@contextmanager
def open_run(cfg: Config, resolved: Mapping[str, Any], overrides: Sequence[str] = ()) -> Iterator[RunContext]:
    """Folder, records, cluster and placement of a run; everything is given back at the end, whatever happens."""
    plan = make_plan(cfg)
    folder = RunFolder.open(cfg, resolved)
    recorder = Recorder(folder.path, cfg.telemetry)
    progress = make_progress(cfg.telemetry.progress)
    recorder.say = progress.message
    try:
        recorder.settings(resolved, overrides)
        progress.message(f"{'continuing' if folder.resumed else 'run folder'} {folder.path}")
        progress.message(describe(cfg))
        with importing_ahead():
            placed = connect(cfg.cluster, plan)
        check_shared(folder.path)
        placement = Placement.create(placed, folder.path.name, cfg.cluster.ready_timeout_s)
        context = RunContext(cfg, folder, recorder, progress, placement)
        yield context
    except OutOfMemoryError as cause:
        raise RunError(OUT_OF_MEMORY) from cause
    finally:
        progress.stop()
        recorder.close()
        shutdown()
        folder.close()


@contextmanager
def importing_ahead() -> Iterator[None]:
    """Import what every run needs next, two seconds' worth, while Ray comes up in processes of its own."""
    ahead = threading.Thread(target=_import_tokenizers)
    ahead.start()
    try:
        yield
    finally:
        ahead.join()


def _import_tokenizers() -> None:
    from transformers import PreTrainedTokenizerFast  # noqa: F401


def closing(summary: Mapping[str, Any], report: Any) -> str:
    """The last lines of a run: held-out scores in the order of the stages, the model, the report."""
    scores = [
        f"{name.removesuffix('/eval/score')} {f'{value:.1%}' if 0 <= value <= 1 else f'{value:.3g}'}"
        for name, value in summary["metrics"].items()
        if name.endswith("/eval/score")
    ]
    held_out = [f"held-out score: {' -> '.join(scores)}"] if scores else []
    return "\n".join([*held_out, f"model:  {summary['model']}", f"report: {report}"])


async def run_stages(context: RunContext) -> dict[str, Any]:
    """All stages in order; ends every actor. Returns the final model and the metrics of every stage."""
    results: dict[str, dict[str, Any]] = {}
    listed = stages(context.cfg)
    try:
        with stopping_on_signals(context):
            for index, (name, node) in enumerate(context.cfg.stages.items()):
                result = context.folder.stage_result(name)
                if result is None:
                    if engines_may_start(context.cfg, listed[index:], context.shared):
                        context.start_engines()
                        await asyncio.sleep(0.05)  # they are begun before the stage reads its data, which takes seconds
                    result = await _run_stage(context, name, node)
                elif "model" in result:
                    context.model_path = result["model"]
                context.first_step += result["steps"]
                results[name] = result
    except StopRequested:
        raise
    except Exception as error:
        # A stage that stalls or dies leaves everybody's stacks in the logs, before the actors are ended.
        asked = await asyncio.to_thread(dump_stacks)
        context.recorder.event("failed", error=str(error), stacks_in_logs_of=asked)
        raise
    finally:
        await context.close()
    return {"model": context.model_path, "metrics": stage_summary(results)}


async def _run_stage(context: RunContext, name: str, node: Any) -> dict[str, Any]:
    """One stage, recorded from its start to its end."""
    context.recorded = False
    context.recorder.event("stage_started", stage=name, model=context.model_path)
    stage = build(node, f"stages.{name}", tuple(context.cfg.run.allow_targets), name=name)
    result = {"started_from": context.model_path, **checked(name, await stage.run(context))}
    context.folder.finish_stage(name, result)
    context.recorder.event("stage_finished", stage=name, metrics=result["metrics"])
    return result


def engines_may_start(cfg: Config, left: Sequence[Part], shared: bool = False) -> bool:
    """Whether engines with the present model will do for the first of these stages that samples, so that they can start
    beside the ones before it: it comes next, or it publishes its own weights first (not where devices are shared: there
    engines would start beside a learner).
    """
    first = next((part for part in left if "rollout" in roles_of(part)), None)
    if first is None or any(judge.path.startswith("@") for judge in cfg.judges.values()):
        return False
    return first is left[0] or (not shared and getattr(first.cls, "publishes", False))
