"""LoRA in place of all weights, on the tiny task of `recipe=grpo`: what is learned, what it takes, what is sent.

Three seeds. Each warms a model up once and trains two copies of it by GRPO alike, one with all its weights, one with
adapters at ten times the rate, the usual rule, which alone are sent to the engines. Their rank is the highest of which
a sync stays below a twentieth of the model's bytes.

    make experiment RECIPE=lora

Thresholds: gain of the held-out score at least .8 of the full one's (mean of the seeds), optimizer state under 10 %.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.experiments._main import in_turn, main
from benchmarks.experiments._recipe_runs import FinishedRun, run_recipe, stage, together
from benchmarks.experiments.report import REAL, Claim, largest

SEEDS = (1, 2, 3)
LORA = {"rank": 4, "alpha": 16.0, "lr": 1.5e-3, "sync": "adapter"}  # all weights: 1.5e-4, the recipe's at this scale
STEPS = 60


def compared(folder: Path) -> list[Claim]:
    """Gains, optimizer state and bytes."""
    runs = together([partial(both, folder, seed) for seed in SEEDS])
    gains = {name: np.array([gain(run, name) for run in runs]) for name in ("full", "adapted")}
    share = float(gains["adapted"].mean() / gains["full"].mean())
    seeds = "; ".join(f"{name} {', '.join(f'{value:.3f}' for value in values)}" for name, values in gains.items())
    state = largest(
        last(run, "adapted", "learner/optimizer_mb") / last(run, "full", "learner/optimizer_mb") for run in runs
    )
    sent = largest(last(run, "adapted", "publish/bytes") / last(run, "full", "publish/bytes") for run in runs)
    gap = largest(step["sampler_gap"] for run in runs for step in run.steps("adapted"))
    note = f"{REAL}; gains by seed: {seeds}"
    return [
        Claim(
            name="gain with adapters over gain with all weights", value=share, threshold=0.8, relation=">=", note=note
        ),
        Claim(name="optimizer state, share of the full one's", value=state, threshold=0.1, relation="<=", note=REAL),
        Claim(name="bytes of a sync, share of the full one's", value=sent, threshold=0.05, relation="<=", note=REAL),
        Claim(name="gap of the engines' log-probs, nat", value=gap, threshold=1e-5, relation="<=", note=REAL),
    ]


def both(folder: Path, seed: int) -> FinishedRun:
    """One warmed-up model, trained twice."""
    learns = {"steps": STEPS, "prompts_per_step": 64, "group_size": 8, "start": "@warmup"}
    arms = [
        stage("full", "rl.Rl", **learns),
        stage("full_after", "evaluate.Evaluate"),
        stage("adapted", "rl.Rl", **learns, lora=LORA),
        stage("adapted_after", "evaluate.Evaluate"),
    ]
    return run_recipe("grpo", folder / str(seed), [f"seed={seed}", "~stages.rl", "~stages.after", *arms])


def gain(run: FinishedRun, arm: str) -> float:
    """Of the held-out score over the warmed-up model's."""
    return run.metrics[f"{arm}_after/eval/score"] - run.metrics["before/eval/score"]


def last(run: FinishedRun, arm: str, metric: str) -> float:
    """A metric of the last step of a stage."""
    return float(run.steps(arm)[-1][metric])


if __name__ == "__main__":
    main("lora", __doc__, {"A": compared}, {"seeds": list(SEEDS)}, in_turn)
