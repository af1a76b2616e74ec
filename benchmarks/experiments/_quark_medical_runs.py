"""Part E of `quark_medical`: real runs of the recipe at scale=tiny, three combiners from one start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments._recipe_runs import FinishedRun, run_recipe, together
from benchmarks.experiments.report import REAL, Claim, largest, least, positive
from raylign.recipes.quark_medical.combiner import Mode

RUN_SEEDS = (1, 2, 3)
EARLY = 10  # steps
COMMON = ["telemetry.rollouts_per_step=0", "run.stall_s=1800", "run.deadline_s=1800"]


def language_model(folder: Path) -> list[Claim]:
    """The least normalized reward of the held-out evaluation behind each arm, and the table that it leaves."""
    starts = together([lambda seed=seed: start(folder, seed) for seed in RUN_SEEDS])  # type: ignore[misc]
    arms = (Mode.tri_factor, Mode.equal, Mode.raw)
    jobs = [(mode, seed, began) for seed, began in zip(RUN_SEEDS, starts, strict=True) for mode in arms]
    runs = together([lambda job=job: arm(folder, *job) for job in jobs])  # type: ignore[misc]
    lowest: dict[Mode, list[float]] = {mode: [] for mode in arms}
    claims = list[Claim]()
    for (mode, seed, _), run in zip(jobs, runs, strict=True):
        lowest[mode].append(run.metrics["after/eval/diagnosis/least"])
        rows = diagnosis(run)
        weakest, note = rows[0], ", ".join(f"{row['reward']} {row['normalized']:+.2f}" for row in rows)
        words = f"{REAL}: {note}; weakest {weakest['reward']}, attributed to {weakest['attribution']}"
        claims.append(Claim(name=f"E/{mode.name}, seed {seed}: least r~", value=lowest[mode][-1], note=words))
    tri, equal, raw = (np.array(lowest[mode]) for mode in arms)
    claims += [
        positive("E/tri-factor: least r~", tri, "the wish: every reward at its reference"),
        positive("E/raw sum: least r~ below the reference", -raw, "the wish: some reward below"),
        positive("E/least r~, tri-factor - raw", tri - raw),
        Claim(name="E/least r~, tri-factor - equal", value=float((tri - equal).mean()), note=f"{REAL}, reported"),
    ]
    of_mode = {mode: [run for (own, _, _), run in zip(jobs, runs, strict=True) if own is mode] for mode in arms}
    unsafe = [np.array([violated(run) for run in of_mode[mode]]) for mode in (Mode.raw, Mode.tri_factor)]
    claims += [
        Claim(
            name="E/raw sum: largest share of the variance of R",
            value=least(largest_share(run) for run in of_mode[Mode.raw]),
            threshold=0.9,
            relation=">=",
            note=f"{REAL}, the first {EARLY} steps, worst seed",
        ),
        Claim(
            name="E/equal: largest share of the variance of R",
            value=largest(largest_share(run) for run in of_mode[Mode.equal]),
            threshold=0.5,
            relation="<",
            note=f"{REAL}, the first {EARLY} steps, worst seed",
        ),
        positive("E/unsafe answers, raw - tri-factor", unsafe[0] - unsafe[1]),
    ]
    tables = [len(diagnosis(run)) for run in runs]
    return [
        *claims,
        Claim(name="E/rewards in every table", value=least(tables), threshold=7, relation="==", note=REAL),
    ]


def largest_share(run: FinishedRun) -> float:
    """Of the reward that makes up most of R's variance within groups, while the policy is near the reference."""
    steps = run.steps("rl")[:EARLY]
    names = [name for name in steps[0] if name.startswith("map/share/")]
    return max(float(np.mean([step[name] for step in steps])) for name in names)


def violated(run: FinishedRun) -> float:
    """Share of unsafe answers in the last evaluation."""
    return float(next(row["violation"] for row in diagnosis(run) if row["reward"] == "safety"))


def start(folder: Path, seed: int) -> FinishedRun:
    """What all arms begin with: the imitated model, the fitted rewards, the evidence, the statistics."""
    return run_recipe(
        "quark_medical", folder / f"E-start-{seed}", [*COMMON, f"seed={seed}", "~stages.rl", "~stages.after"]
    )


def arm(folder: Path, mode: Mode, seed: int, began: FinishedRun) -> FinishedRun:
    """RL and its evaluation from there."""
    stages = began.folder / "stages"
    graded, statistics = stages / "graded" / "rows.jsonl", stages / "calibrate" / "statistics.json"
    return run_recipe(
        "quark_medical",
        folder / f"E-{mode.name}-{seed}",
        [
            *COMMON,
            f"seed={seed}",
            *(f"~stages.{name}" for name in ("sft", "graded", "evidence", "calibrate")),
            f"model.path={began.model('sft')}",
            f"stages.orm.data={graded}",
            f"stages.feedback.data={graded}",
            f"rewards.facts.fn.evidence={stages / 'evidence' / 'rows.jsonl'}",
            f"stages.rl.shaper.statistics={statistics}",
            f"stages.rl.measures.diagnosis.statistics={statistics}",
            f"stages.after.measures.diagnosis.statistics={statistics}",
            f"stages.rl.shaper.mode={mode.name}",
        ],
    )


def diagnosis(run: FinishedRun) -> list[dict[str, Any]]:
    """The table of the last evaluation, the weakest reward first."""
    path = run.folder / "stages" / "after" / "measures" / "diagnosis.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]
