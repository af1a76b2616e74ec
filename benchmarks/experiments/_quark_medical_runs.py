"""Part E of `quark_medical`: the recipe at scale=tiny, three combiners of a seed from one imitator."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.experiments._recipe_runs import FinishedRun, run_recipe, together
from benchmarks.experiments.report import REAL, Claim, largest, least, positive
from raylign.recipes.quark_medical.combiner import Mode

RUN_SEEDS = (1, 2, 3)
STEPS, EARLY = 120, 10
ARMS = (Mode.tri_factor, Mode.equal, Mode.raw)
QUIET = ["telemetry.rollouts_per_step=0", "run.stall_s=1800", "run.deadline_s=1800"]


class Arm(NamedTuple):
    """Of one seed and combiner: the run that it is a part of, and its two stages there."""

    done: FinishedRun
    learning: str
    after: str

    @property
    def lowest(self) -> float:
        """The least reward in the last evaluation, in deviations of the reference."""
        return self.done.metrics[f"{self.after}/eval/diagnosis/least"]

    @property
    def largest_share(self) -> float:
        """Of the reward that makes up most of R's variance within groups, while the policy is near the reference."""
        steps = self.done.steps(self.learning)[:EARLY]
        names = [name for name in steps[0] if name.startswith("map/share/")]
        return max(float(np.mean([step[name] for step in steps])) for name in names)

    @property
    def violated(self) -> float:
        """Share of unsafe answers in the last evaluation."""
        return float(next(row["violation"] for row in self.diagnosis if row["reward"] == "safety"))

    @property
    def diagnosis(self) -> list[dict[str, Any]]:
        """The table of the last evaluation, the weakest reward first."""
        path = self.done.folder / "stages" / self.after / "measures" / "diagnosis.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def __str__(self) -> str:
        rows = self.diagnosis
        note = ", ".join(f"{row['reward']} {row['normalized']:+.2f}" for row in rows)
        return f"{note}; weakest {rows[0]['reward']}, attributed to {rows[0]['attribution']}"


def language_model(folder: Path) -> list[Claim]:
    """The least normalized reward of the held-out evaluation behind each arm, and the table that it leaves."""
    runs = together([partial(run, folder, seed) for seed in RUN_SEEDS])
    of_mode = {mode: [arms[mode] for arms in runs] for mode in ARMS}
    claims = [
        Claim(name=f"E/{mode.name}, seed {seed}: least r~", value=arm.lowest, note=f"{REAL}: {arm}")
        for mode in ARMS
        for seed, arm in zip(RUN_SEEDS, of_mode[mode], strict=True)
    ]
    tri, equal, raw = (np.array([arm.lowest for arm in of_mode[mode]]) for mode in ARMS)
    claims += [
        positive("E/tri-factor: least r~", tri, "the wish: every reward at its reference"),
        positive("E/raw sum: least r~ below the reference", -raw, "the wish: some reward below"),
        positive("E/least r~, tri-factor - raw", tri - raw),
        Claim(name="E/least r~, tri-factor - equal", value=float((tri - equal).mean()), note=f"{REAL}, reported"),
    ]
    unsafe = [np.array([arm.violated for arm in of_mode[mode]]) for mode in (Mode.raw, Mode.tri_factor)]
    claims += [
        Claim(
            name="E/raw sum: largest share of the variance of R",
            value=least(arm.largest_share for arm in of_mode[Mode.raw]),
            threshold=0.9,
            relation=">=",
            note=f"{REAL}, the first {EARLY} steps, worst seed",
        ),
        Claim(
            name="E/equal: largest share of the variance of R",
            value=largest(arm.largest_share for arm in of_mode[Mode.equal]),
            threshold=0.5,
            relation="<",
            note=f"{REAL}, the first {EARLY} steps, worst seed",
        ),
        positive("E/unsafe answers, raw - tri-factor", unsafe[0] - unsafe[1]),
    ]
    tables = [len(arm.diagnosis) for arms in of_mode.values() for arm in arms]
    return [
        *claims,
        Claim(name="E/rewards in every table", value=least(tables), threshold=7, relation="==", note=REAL),
    ]


def run(folder: Path, seed: int) -> dict[Mode, Arm]:
    """The recipe up to its statistics, then an arm of each combiner, all from the imitator."""
    first, *others = ARMS
    stages = [f"stages.rl.steps={STEPS}", "stages.rl.start=@sft", f"stages.rl.shaper.mode={first.name}"]
    for mode in others:
        stages += [f"stages.{mode.name}=${{stages.rl}}", f"stages.{mode.name}.shaper.mode={mode.name}"]
        stages.append(f"stages.{mode.name}_after=${{stages.after}}")
    done = run_recipe("quark_medical", folder / f"E-{seed}", [f"seed={seed}", *stages, *QUIET])
    return {first: Arm(done, "rl", "after")} | {mode: Arm(done, mode.name, f"{mode.name}_after") for mode in others}
