"""Asynchronous against synchronous steps: same 2.4 M model, data and long-tailed lengths, one core a role.

    python -m benchmarks.async_vs_sync [--repeats 1] [--trl] [--force]

bare: in synchronous runs with one engine and one rank, what generation alone and learning alone take per step.
async: the same engine and rank at the same time, staleness 1; its step may take 1.15 times the slower of the two.
accuracy: mean reward over the last quarter of equally many samples, both ways (no worse, but for chance).
--trl: also TRL's samples per second in the setting of `step_vs_trl.py` (6 times as many are claimed).
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from typing import Any

from benchmarks.harness import environment, refuse_under_load, write
from benchmarks.sides import ours
from benchmarks.sides.tasks import write_rows
from benchmarks.step_vs_trl import COMMON, SETTINGS, WORK, run_trl, warmed_model

STEPS = 13
ONE_EACH = ["rollout.workers=1", "learner.ranks=1"]
ASYNC = ["stages.rl.staleness=1", "objective.mismatch.mode=truncate"]
LIMIT, TRL_LIMIT = 1.15, 6.0


def steps_of(name: str, overrides: list[str], model: str) -> list[dict[str, Any]]:
    """The steps of one run, without the first two (start-up, and a step that did not run ahead yet)."""
    setting = SETTINGS["long"]
    folder = WORK / f"async-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    common = [override for override in COMMON if not override.startswith(("rollout.workers", "learner.ranks"))]
    fixed = [
        f"data.path={WORK}/rows-long.jsonl",
        "data.format=trl",
        f"model.path={model}",
        f"rollout.sampling.max_tokens={setting['max_tokens']}",
        f"stages.rl.prompts_per_step={setting['prompts']}",
        f"stages.rl.group_size={setting['group']}",
        f"stages.rl.steps={STEPS}",
    ]
    return ours.train([*common, *fixed, *ONE_EACH, *overrides], folder)[2:]


def median(steps: list[dict[str, Any]], name: str) -> float:
    """Of one metric over steps that have it."""
    return statistics.median(step[name] for step in steps if name in step)


def reward(steps: list[dict[str, Any]]) -> float:
    """Mean over the last quarter."""
    last = steps[-max(1, len(steps) // 4) :]
    return statistics.mean(step["reward/mean"] for step in last)


def measure(repeats: int, with_trl: bool) -> dict[str, Any]:
    """Both modes in turn."""
    setting = SETTINGS["long"]
    model = str(warmed_model("long", setting))
    write_rows(WORK / "rows-long.jsonl", 1000, setting["mean"], setting["max_tokens"], seed=2)
    sync: list[dict[str, Any]] = []
    ahead: list[dict[str, Any]] = []
    for repeat in range(repeats):
        sync += steps_of(f"sync-{repeat}", [], model)
        ahead += steps_of(f"ahead-{repeat}", ASYNC, model)
    samples = setting["prompts"] * setting["group"]
    generation = median(sync, "time/generate")
    learning = median([{"s": step["time/step"] - step["time/generate"]} for step in sync], "s")
    figures: dict[str, Any] = {
        "bare_generation_s": generation,
        "bare_learning_s": learning,
        "sync_step_s": median(sync, "time/step"),
        "async_step_s": median(ahead, "time/step"),
        "async_over_slower": median(ahead, "time/step") / max(generation, learning),
        "idle": {
            "sync": {role: median(sync, f"idle/{role}") for role in ("rollout", "learner")},
            "async": {role: median(ahead, f"idle/{role}") for role in ("rollout", "learner")},
        },
        "reward": {"sync": reward(sync), "async": reward(ahead)},
        "samples_per_s": {"async": samples / median(ahead, "time/step")},
    }
    if with_trl:
        steps = run_trl("long", setting, warmed_model("long", setting))
        figures["samples_per_s"]["trl"] = samples / statistics.median(step["wall"] for step in steps)
        figures["over_trl"] = figures["samples_per_s"]["async"] / figures["samples_per_s"]["trl"]
    return figures


def main() -> None:
    """Measure, and print the verdict beside the threshold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--trl", action="store_true")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine")
    args = parser.parse_args()
    refuse_under_load(0.5, args.force)
    WORK.mkdir(parents=True, exist_ok=True)
    figures = measure(args.repeats, args.trl)
    print(
        f"async step: {figures['async_over_slower']:.2f} x the slower of bare generation and learning (needs {LIMIT})"
    )
    if "over_trl" in figures:
        print(f"async: {figures['over_trl']:.1f} x TRL's samples per second (needs {TRL_LIMIT})")
    write("async_vs_sync", {"environment": environment(), "results": figures})


if __name__ == "__main__":
    main()
