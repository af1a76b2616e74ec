"""Run a recipe: its stages in order, each picking up the model of the one before it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from ray.exceptions import OutOfMemoryError

from raylign.capacity import UNKNOWN
from raylign.cluster import check_shared, connect, shutdown
from raylign.config.describe import describe
from raylign.config.resolve import ResolvedStage, Run
from raylign.config.schema import Config
from raylign.contracts import StageResult
from raylign.errors import OUT_OF_MEMORY, RunError
from raylign.loop_lag import LoopLag
from raylign.placement import Placement
from raylign.plan import make_plan
from raylign.recipes.checks import check
from raylign.recipes.stages.context import RunContext, StopRequested
from raylign.recipes.stages.outcome import checked, stage_summary
from raylign.recipes.stopping import stopping_on_signals
from raylign.run_folder import RunFolder
from raylign.telemetry.logs import driver_log
from raylign.telemetry.progress import LoggedProgress, make_progress
from raylign.telemetry.recorder import Recorder
from raylign.telemetry.report import write_report
from raylign.telemetry.stacks import dump_stacks

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
        context.folder.finish(summary)
        context.progress.stop()
        context.progress.message(closing(summary, write_report(context.folder.path)))
        return 0


@contextmanager
def open_run(run: Run, overrides: Sequence[str] = ()) -> Iterator[RunContext]:
    """Folder, records, cluster and placement of a run; everything is given back at the end, whatever happens."""
    cfg, plan, reading = run.config, make_plan(run), check(run)
    folder = RunFolder.open(cfg, run.tree)
    recorder = Recorder(folder.path, cfg.telemetry)
    progress = LoggedProgress(make_progress(cfg.telemetry.progress))
    recorder.say = progress.message
    ended = False
    try:
        with driver_log(folder.path / "logs"):
            recorder.settings(run.tree, overrides)
            progress.message(f"{'continuing' if folder.resumed else 'run folder'} {folder.path}")
            progress.message(describe(run))
            with importing_ahead():
                placed = connect(cfg.cluster, plan)
            if placed.gpus and not placed.loads:
                progress.message(f"warning: {UNKNOWN}")
            check_shared(folder.path)
            placement = Placement.create(placed, folder.path.name, cfg.cluster.ready_timeout_s)
            context = RunContext(run, folder, recorder, progress, placement, reading=reading)
            yield context
            ended = True
    except OutOfMemoryError as cause:
        raise RunError(OUT_OF_MEMORY) from cause
    finally:
        progress.stop()
        try:
            # What ended the run says more than that the last records do not fit on a full disk either.
            with nullcontext() if ended else suppress(OSError):
                recorder.close()
        finally:
            shutdown()
            folder.close()


@contextmanager
def importing_ahead() -> Iterator[None]:
    """Import what every run needs next (it takes about two seconds) while Ray starts in processes of its own."""
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


async def run_watched(context: RunContext) -> dict[str, Any]:
    """`run_stages`, with the lag of its event loop in every step's metrics."""
    async with LoopLag() as context.figures.lag:
        return await run_stages(context)


async def run_stages(context: RunContext) -> dict[str, Any]:
    """All stages in order; ends every actor. Returns the final model and the metrics of every stage."""
    results: dict[str, StageResult] = {}
    stages = context.run.stages
    try:
        with stopping_on_signals(context):
            for index, stage in enumerate(stages):
                result = context.folder.stage_result(stage.name)
                if result is None:
                    context.lineage.model = context.lineage.of(stage.config.start)
                    if engines_may_start(context.cfg, stages[index:], context.roles.shared):
                        context.roles.start_rollouts(context.lineage.model)
                    if "rollout" in stage.roles:
                        await context.read_prompts()  # here, so that no stage reads them on the event loop
                    result = await _run_stage(context, stage)
                elif result.model:
                    context.lineage.model = result.model
                context.first_step += result.steps
                results[stage.name] = result
    except StopRequested:
        raise
    except Exception as error:
        # A stage that stalls or dies leaves everybody's stacks in the logs, before the actors are ended.
        asked = await asyncio.to_thread(dump_stacks)
        with suppress(OSError):  # on a full disk the error is all that can be told
            context.recorder.event("failed", error=str(error), stacks_in_logs_of=asked)
        raise
    finally:
        await context.roles.close()
    return {"model": context.lineage.model, "metrics": stage_summary(results)}


async def _run_stage(context: RunContext, stage: ResolvedStage) -> StageResult:
    """One stage, recorded from its start to its end."""
    context.recorded, started_from = False, context.lineage.model
    context.recorder.event("stage_started", stage=stage.name, model=started_from)
    made = context.run.parts[stage.key].build(name=stage.name)
    result = checked(stage.name, await made.run(context))
    await context.recorder.flushed()
    context.folder.finish_stage(stage.name, result, started_from)
    context.recorder.event("stage_finished", stage=stage.name, metrics=dict(result.metrics))
    return result


def engines_may_start(cfg: Config, left: Sequence[ResolvedStage], shared: bool = False) -> bool:
    """Whether rollout engines can be started now, with the present model, for the next stage that samples.

    They can when that stage comes first, or publishes its own weights before it samples. In the second case not where
    devices are shared: the engines would start beside a learner.
    """
    first = next((stage for stage in left if "rollout" in stage.roles), None)
    if first is None or any(judge.path.startswith("@") for judge in cfg.judges.values()):
        return False
    return first is left[0] or (not shared and first.cls.publishes)
