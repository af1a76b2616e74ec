"""What the controller costs: wall time of a step in which neither an engine nor the learner is at work.

    python -m benchmarks.driver_overhead [--steps 8] [--force]

Synchronous mode, the long-tailed setting of `step_vs_trl.py`. The roles take turns, so the busiest role at a moment is
the engine while it samples (seconds inside vLLM's step), the learner while it updates, and the engine again while it
loads and proves new weights. Whatever else passes (rewards after the last token, shaping, advantage, packing rows,
messages, the learner's side of the publication) is counted as overhead.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from pathlib import Path

from benchmarks.harness import environment, refuse_under_load, write
from benchmarks.sides.tasks import write_rows
from benchmarks.step_vs_trl import COMMON, SETTINGS, WORK, warmed_model
from raylign.config.build import part_config
from raylign.config.compose import compose
from raylign.recipes.opening import open_run
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.rl import Rl


async def measure(context: RunContext, steps: int) -> list[dict[str, float]]:
    """Seconds of every step after the first: wall, engine, learner, sync, overhead."""
    _, config = part_config(context.cfg.stages["rl"], "stages.rl")
    loop = await Rl(config, "rl").loop(context)
    await loop.publish()
    rollouts, timings = await context.rollouts(), []
    for step in range(steps + 1):
        before = await _busy(rollouts)
        metrics = (await loop.step(step)).metrics
        engine = await _busy(rollouts) - before
        learner, sync = metrics["learner/seconds"], metrics["publish/seconds"]
        wall = metrics["time/step"]
        overhead = wall - engine - learner - sync
        timings.append({"wall": wall, "engine": engine, "learner": learner, "sync": sync, "overhead": overhead})
    await context.roles.close()
    return timings[1:]


async def _busy(rollouts: object) -> float:
    stats = await rollouts.stats()  # type: ignore[attr-defined]
    return max(worker["busy_s"] for worker in stats["workers"])


def main() -> None:
    """Run the steps and print the share of overhead beside its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--force", action="store_true", help="measure on a busy machine")
    args = parser.parse_args()
    refuse_under_load(0.5, args.force)
    setting = SETTINGS["long"]
    WORK.mkdir(parents=True, exist_ok=True)
    model = warmed_model("long", setting)
    rows = write_rows(WORK / "rows-long.jsonl", 400, setting["mean"], setting["max_tokens"], seed=2)
    overrides = [
        *COMMON,
        f"data.path={rows}",
        "data.format=trl",
        f"model.path={model}",
        f"rollout.sampling.max_tokens={setting['max_tokens']}",
        f"stages.rl.prompts_per_step={setting['prompts']}",
        f"stages.rl.group_size={setting['group']}",
        f"run.dir={Path(WORK / 'overhead')}",
        "run.resume=auto",
        "telemetry.progress=none",
    ]
    with open_run(compose(overrides)) as context:
        steps = asyncio.run(measure(context, args.steps))
    share = statistics.median(step["overhead"] / step["wall"] for step in steps)
    medians = {name: statistics.median(step[name] for step in steps) for name in steps[0]}
    print(f"overhead {share:.1%} of a step (limit 5 %); medians in seconds: {medians}")
    write("driver_overhead", {"environment": environment(), "share": share, "medians_s": medians, "steps": steps})


if __name__ == "__main__":
    main()
