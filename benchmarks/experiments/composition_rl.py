"""Composition-RL (arXiv:2602.12036): what a faithful small-scale experiment must show, with the digest's thresholds.

A  exactness: the operator on 2,000 random triples, on the human-checked records of VCMD and on its 200 seeds; reason
   codes; the solve-all ratio that the prompt source logs, against its formula (no model)
B  learning through the real actors, 3 seeds: warm-up by sft, then GRPO on the seeds alone, on composed prompts, and on
   the same pairs side by side without a link, each from the same warmed-up model
C  the depth curriculum, one more arm of the first seed: depth 1 until its solve-all ratio is exhausted, then depth 2

The digest's toy takes 150 steps of 48 prompts; here it is 50 of 32, whose gain is above the threshold.
The warm-up is two stages: the seeds until they are solved, then chains until the deepest pass as often as the digest's
start. Only a third of the seeds is shown before a chain's last slot, so that what a chain lacks is mostly v1.

    make experiment RECIPE=composition_rl                 all parts; the recipe's card has their measured cost
    make experiment RECIPE=composition_rl ARGS="A"        the part without a language model, half a minute
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks.experiments._composition_rl_checks import claims as exactness
from benchmarks.experiments._main import main
from benchmarks.experiments._recipe_runs import FinishedRun, Metrics, run_recipe, stage, together
from benchmarks.experiments.report import ROOT, Claim

Part: TypeAlias = Callable[[Sequence[FinishedRun]], list[Claim]]
SEEDS = (1, 2, 3)
STEPS = 50
RATE = 1e-4
DEMONSTRATIONS = {
    "batch_size": 64,
    "eval_every": 50,
    "eval_prompts": 512,
    "chains": 1500,
    "first_seeds": 100,
}
SEEDS_ONLY = {
    "steps": 1200,
    "shares": [1.0],
    "stop_at": 0.995,
    "optim": {"lr": 3e-3, "warmup_steps": 50, "schedule": "cosine"},
}
CHAINS = {
    "steps": 1600,
    "shares": [0.8, 0.2],
    "stop_at": 0.6,  # of depth 2, greedy: the digest's toy starts at .59, and says to start from .5 to .9
    "optim": {"lr": 1e-3, "warmup_steps": 20, "schedule": "constant"},
}
START = "@chains"
RL = {"steps": STEPS, "prompts_per_step": 32, "group_size": 8, "dynamic_sampling": True, "sampling_rounds": 4}
COMPOSER = {"_target_": "raylign.recipes.composition_rl.SymbolicComposer", "style": "formula", "modulus": 10}
SOURCE = {"_target_": "raylign.recipes.composition_rl.CompositionSource", "composer": COMPOSER}
FIXED = {"_target_": "raylign.recipes.composition_rl.FixedChains", "composer": COMPOSER}
DEPTHS = {f"depth_{depth}": {**FIXED, "curriculum": {"depths": [depth]}} for depth in (1, 2)}
EVALUATION = {"split": "train", "prompts": 1024, "sets": DEPTHS}
ARMS: dict[str, dict[str, Any]] = {
    "originals": {**SOURCE, "curriculum": {"depths": [1]}},
    "composed": {**SOURCE, "curriculum": {"depths": [2]}},
    "plain": {**SOURCE, "curriculum": {"depths": [2]}, "linked": False},
}
SWITCH = {"depths": [1, 2], "trigger": "solve_all", "solve_all_above": 0.6, "solve_all_steps": 8}
WITHOUT = ["~stages.warmup", "~stages.before", "~stages.rl", "~stages.after"]
WINDOW = 10  # steps at either end of an arm that training-time ratios are averaged over


def shared_runs(parts: Mapping[str, Part], folder: Path) -> list[Claim]:
    """The claims of some parts; those that learn share one run a seed."""
    seeds = SEEDS if "B" in parts else SEEDS[:1] if "C" in parts else ()
    arms = list(ARMS) if "B" in parts else []
    given = [overrides(seed, arms, curriculum="C" in parts and seed == SEEDS[0]) for seed in seeds]
    folders = [folder / f"seed{seed}" for seed in seeds]
    runs = together([partial(run_recipe, "composition_rl", *pair) for pair in zip(folders, given, strict=True)], 3)
    return [claim for part in parts.values() for claim in part(runs)]


def without_a_model(_: Sequence[FinishedRun]) -> list[Claim]:
    """Digest parts 1 and 2, and the real seeds where they are present."""
    data = ROOT.parent / "shared" / "data" / "composition"
    return exactness(data if data.exists() else None)


def overrides(seed: int, arms: Sequence[str], curriculum: bool) -> list[str]:
    """One run: warm-up, evaluation, and each arm from the warmed-up model with an evaluation after it.

    curriculum: one more arm that begins at depth 1 and goes on at depth 2 when its trigger fires.
    """
    settings = [f"seed={seed}", f"model.tiny.seed={seed}", f"learner.optim.lr={RATE}", *WITHOUT]
    for name, fields in (("seeds", SEEDS_ONLY), ("chains", CHAINS)):
        settings.append(_toy_stage(name, "WarmUp", **DEMONSTRATIONS, **fields))
    settings.append(stage("start", "evaluate.Evaluate", **EVALUATION))
    for arm in arms:
        settings.append(stage(arm, "rl.Rl", **RL, start=START, source=ARMS[arm]))
        settings.append(stage(f"after_{arm}", "evaluate.Evaluate", **EVALUATION))
    if curriculum:
        steps = {**RL, "steps": 24, "start": START, "source": {**SOURCE, "curriculum": SWITCH}}
        settings.append(stage("curriculum", "rl.Rl", **steps))
    return settings


def learning(runs: Sequence[FinishedRun]) -> list[Claim]:
    """Digest part 3."""
    depth2 = {arm: _after(runs, arm, "depth_2/score") for arm in ARMS}
    before = {depth: np.array([run.metrics[f"start/depth_{depth}/score"] for run in runs]) for depth in (1, 2)}
    gain = float((depth2["composed"] - depth2["originals"]).mean())
    control = float((depth2["plain"] - depth2["originals"]).mean())
    loss = float((before[1] - _after(runs, "composed", "depth_1/score")).mean())
    solve_all = {arm: _mean(runs, arm, "source/solve_all") for arm in ARMS}
    first, last = _ends(runs, "composed", "source/v1_recovered")
    fills = {arm: _mean(runs, arm, "groups/fill") for arm in ARMS}
    rows: list[tuple[str, float, Any, str, str]] = [
        ("depth-2 accuracy at the start", float(before[2].mean()), (0.5, 0.9), "within", _text(before[2])),
        ("depth-1 accuracy at the start", float(before[1].mean()), 0.99, ">=", ""),
        ("depth-2 gain, composed over originals", gain, 0.06, ">=", _arms(depth2)),
        ("depth-2 gain of the control without links", control, gain / 2, "<=", "half of the composed gain"),
        ("solve-all of originals", solve_all["originals"], 0.9, ">=", "mean over all steps"),
        ("solve-all of composed", solve_all["composed"], 0.5, "<=", "mean over all steps"),
        ("batch fill of originals", fills["originals"], 0.3, "<=", f"composed {fills['composed']:.2f}"),
        ("rise of v1 recovery", last - first, 0.05, ">=", f"{first:.3f} -> {last:.3f}; never rewarded"),
        ("depth-1 accuracy lost by composed", loss, 0.01, "<=", ""),
    ]
    return [
        Claim(name=f"3/{name}", value=value, threshold=threshold, relation=relation, note=note)
        for name, value, threshold, relation, note in rows
    ]


def curriculum(runs: Sequence[FinishedRun]) -> list[Claim]:
    """Digest part 4: the switch happens where the trigger says, in one run with one optimiser, and solve-all drops."""
    rows = runs[0].steps("curriculum")
    depths = [row["source/depth"] for row in rows]
    switch = depths.index(2.0) if 2.0 in depths else len(depths)
    above = [row["source/solve_all"] > SWITCH["solve_all_above"] for row in rows[:switch]]
    streak = next((end for end in range(1, len(above) + 1) if all(above[max(0, end - 8) : end]) and end >= 8), -1)
    drop = _window(rows[max(0, switch - 8) : switch]) - _window(rows[switch : switch + 8])
    optimiser = [row["learner/optimizer_step"] for row in rows if "learner/optimizer_step" in row]
    return [
        Claim(
            name="4/steps at depth 1 minus steps until the trigger",
            value=switch - streak,
            threshold=0,
            relation="==",
            note=f"switched after {switch} steps",
        ),
        Claim(name="4/drop of solve-all at the switch", value=drop, threshold=0.3, relation=">="),
        Claim(
            name="4/optimiser steps lost at the switch",
            value=float(np.diff(optimiser).max() - 1),
            threshold=0,
            relation="==",
        ),
    ]


def _toy_stage(name: str, kind: str, **fields: Any) -> str:
    """A stage that only this recipe has."""
    return stage(name, kind, **fields).replace("raylign.recipes.stages.", "raylign.recipes.composition_rl.")


def _after(runs: Sequence[FinishedRun], arm: str, metric: str) -> np.ndarray:
    return np.array([run.metrics[f"after_{arm}/{metric}"] for run in runs])


def _mean(runs: Sequence[FinishedRun], arm: str, metric: str) -> float:
    return float(np.mean([row[metric] for run in runs for row in run.steps(arm)]))


def _ends(runs: Sequence[FinishedRun], arm: str, metric: str) -> tuple[float, float]:
    rows = [[row[metric] for row in run.steps(arm)] for run in runs]
    return float(np.mean([row[:WINDOW] for row in rows])), float(np.mean([row[-WINDOW:] for row in rows]))


def _window(rows: Sequence[Metrics]) -> float:
    return float(np.mean([row["source/solve_all"] for row in rows])) if rows else float("nan")


def _text(values: np.ndarray) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _arms(values: dict[str, np.ndarray]) -> str:
    return "; ".join(f"{arm} {_text(per_seed)}" for arm, per_seed in values.items())


if __name__ == "__main__":
    settings = {"seeds": SEEDS, "warmup": [DEMONSTRATIONS, SEEDS_ONLY, CHAINS], "rl": RL, "lr": RATE}
    parts = {"A": without_a_model, "B": learning, "C": curriculum}
    main("composition_rl", __doc__, parts, settings, shared_runs)
