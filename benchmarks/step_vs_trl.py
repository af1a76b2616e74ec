"""GRPO step against TRL's GRPOTrainer: same 2.4 M model, prompts, reward and cores, fp32, synchronous.

    python -m benchmarks.step_vs_trl [--setting long|short|both] [--repeats 2] [--force]

long: 32 groups of 8, log-normal lengths (mean about 60, at most 256) that the model was warmed up to produce.
short: 8 groups of 8, at most 64 tokens.
The first step of each side is left out; sides alternate; medians over all kept steps are compared.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import environment, refuse_under_load, write
from benchmarks.sides import ours
from benchmarks.sides.tasks import write_rows

WORK = Path(".cache/bench/step_vs_trl").absolute()
SHAPE = ["hidden_size=192", "layers=6", "heads=6", "kv_heads=3", "head_dim=32", "intermediate_size=512", "context=512"]
SETTINGS = {
    "long": {"prompts": 32, "group": 8, "max_tokens": 256, "mean": 60, "micro": 32, "trl_steps": 3, "our_steps": 7},
    "short": {"prompts": 8, "group": 8, "max_tokens": 64, "mean": 30, "micro": 64, "trl_steps": 9, "our_steps": 13},
}
COMMON = [
    "recipe=grpo",
    "scale=tiny",
    "~stages.warmup",
    "~stages.before",
    "~stages.after",
    "stages.rl.eval_every=0",
    "run.save_every=0",
    "model.max_context=512",
    "rewards.correct.fn={_target_: raylign.actors.reward.python.PythonFunction, "
    "path: benchmarks.sides.tasks.share_of_vowels}",
    "run.allow_targets=[benchmarks.]",
    "data.task=''",
    "data.holdout=16",
    "learner.optim.lr=1e-5",
    "rollout.workers=2",  # one process a core, as TRL has one thread a core
    "learner.ranks=2",
    "learner.zero_stage=0",
]


def warmed_model(name: str, setting: dict[str, int]) -> Path:
    """The model that samples lengths as in the setting; made once by our own sft recipe."""
    folder = WORK / f"warm-{name}"
    model = folder / "stages/sft/model"
    if not model.exists():
        shutil.rmtree(folder, ignore_errors=True)
        rows = write_rows(WORK / f"warm-{name}.jsonl", 6000, setting["mean"], setting["max_tokens"], seed=1)
        overrides = ["recipe=sft", "scale=tiny", f"data.path={rows}", "data.format=trl", "data.task=''"]
        overrides += [f"model.tiny.{part}" for part in SHAPE]
        overrides += ["model.max_context=512", "stages.sft.steps=250", "stages.sft.optim.lr=1e-3", "data.holdout=16"]
        ours.train([*overrides, "stages.sft.stop_at=null", "stages.sft.eval_every=0"], folder)
    return model


def run_ours(name: str, setting: dict[str, int], model: Path, repeat: int) -> list[dict[str, float]]:
    """Wall and CPU seconds of our steps."""
    folder = WORK / f"ours-{name}-{repeat}"
    shutil.rmtree(folder, ignore_errors=True)
    overrides = [
        *COMMON,
        f"data.path={WORK}/rows-{name}.jsonl",
        "data.format=trl",
        f"model.path={model}",
        f"rollout.sampling.max_tokens={setting['max_tokens']}",
        f"stages.rl.prompts_per_step={setting['prompts']}",
        f"stages.rl.group_size={setting['group']}",
        f"stages.rl.steps={setting['our_steps']}",
    ]
    steps = ours.train(overrides, folder)
    return [{"wall": step["time/step"], "cpu": step["cpu_s"], "length": step["length/mean"]} for step in steps[1:]]


def run_trl(name: str, setting: dict[str, int], model: Path) -> list[dict[str, float]]:
    """Wall and CPU seconds of TRL's steps."""
    arguments = {
        "model": model,
        "rows": WORK / f"rows-{name}.jsonl",
        "output": WORK / "trl",
        "prompts": setting["prompts"],
        "group": setting["group"],
        "max-tokens": setting["max_tokens"],
        "steps": setting["trl_steps"],
        "micro-batch": setting["micro"],
    }
    command = [sys.executable, "-m", "benchmarks.sides.trl_grpo"]
    for key, value in arguments.items():
        command += [f"--{key}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"wall"')][1:]


def compare(name: str, repeats: int) -> dict[str, Any]:
    """Alternate the two sides and compare medians."""
    setting = SETTINGS[name]
    model = warmed_model(name, setting)
    write_rows(WORK / f"rows-{name}.jsonl", 400, setting["mean"], setting["max_tokens"], seed=2)
    mine: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    for repeat in range(repeats):
        theirs += run_trl(name, setting, model)
        mine += run_ours(name, setting, model, repeat)
    samples = setting["prompts"] * setting["group"]
    sides = {"ours": _side(mine, samples), "trl": _side(theirs, samples)}
    return {
        **sides,
        "mean_length": statistics.mean(step["length"] for step in mine),
        "speedup": sides["ours"]["samples_per_s"] / sides["trl"]["samples_per_s"],
        "cpu_ratio": sides["ours"]["cpu_s_per_sample"] / sides["trl"]["cpu_s_per_sample"],
    }


def _side(steps: list[dict[str, float]], samples: int) -> dict[str, float]:
    wall = statistics.median(step["wall"] for step in steps)
    cpu = statistics.median(step["cpu"] for step in steps)
    return {"step_s": wall, "samples_per_s": samples / wall, "cpu_s_per_sample": cpu / samples, "steps": len(steps)}


def main() -> None:
    """Run the comparison and print the verdict beside the threshold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=["long", "short", "both"], default="both")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--force", action="store_true", help="measure on a busy machine")
    args = parser.parse_args()
    refuse_under_load(0.5, args.force)
    WORK.mkdir(parents=True, exist_ok=True)
    names = ["long", "short"] if args.setting == "both" else [args.setting]
    results = {name: compare(name, args.repeats) for name in names}
    for name, figures in results.items():
        limit = {"long": 4.0, "short": 1.1}[name]
        print(
            f"{name}: {figures['speedup']:.2f} x TRL's samples per second (needs {limit}), "
            f"CPU {figures['cpu_ratio']:.2f}"
        )
        print(json.dumps(figures, indent=2))
    write("step_vs_trl", {"environment": environment(), "results": results})


if __name__ == "__main__":
    main()
