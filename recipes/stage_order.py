"""The stages of a run in their order: each picks up what those before it left, and what is finished is not repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from raylign.config.resolve import ResolvedStage
from raylign.config.schema import Config
from raylign.contracts import StageResult
from raylign.loop_lag import LoopLag
from raylign.recipes.stages.context import RunContext, StopRequested
from raylign.recipes.stages.outcome import checked, stage_summary
from raylign.recipes.stopping import stopping_on_signals
from raylign.telemetry.stacks import dump_stacks


async def run_watched(context: RunContext) -> dict[str, Any]:
    """`run_stages`, with the lag of its event loop in every step's metrics."""
    async with LoopLag() as context.figures.lag:
        return await run_stages(context)


async def run_stages(context: RunContext) -> dict[str, Any]:
    """All stages in order; ends every actor. Returns the policy that was made last and the metrics of every stage."""
    results: dict[str, StageResult] = {}
    stages, final = context.run.stages, context.lineage.start
    try:
        with stopping_on_signals(context):
            for index, stage in enumerate(stages):
                policy = context.lineage.model
                result, present = context.folder.stage_result(stage.name), context.enter(stage.name)
                if result is None:
                    if engines_may_start(context.cfg, stages[index:], context.roles.shared):
                        context.roles.engines.start_ahead(context.lineage.model if stage.cls.of_policy else policy)
                    if "rollout" in present.roles:
                        await context.read_prompts()  # here, so that no stage reads them on the event loop
                    result = await _run_stage(context, present)
                    context.roles.engines.stage_ended()
                if not stage.cls.of_policy:
                    context.lineage.model = policy
                elif result.model:
                    context.lineage.model = final = result.model
                context.first_step += result.steps
                results[stage.name] = result
    except StopRequested as stop:
        with suppress(OSError):
            context.recorder.event("stopped", text=str(stop))
        raise
    except Exception as error:
        # A stage that stalls or dies leaves everybody's stacks in the logs, before the actors are ended.
        asked = await asyncio.to_thread(dump_stacks)
        with suppress(OSError):  # on a full disk the error is all that can be told
            context.recorder.event("failed", error=str(error), stacks_in_logs_of=asked)
        raise
    finally:
        await context.roles.close()
    return {"model": final, "metrics": stage_summary(results)}


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
