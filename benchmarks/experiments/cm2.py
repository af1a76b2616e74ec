"""CM2 (arXiv:2602.12268): what a faithful small-scale experiment must show, with the digest's thresholds.

A  reward algebra: four hand-checkable vectors, 10,000 random label tables, step and turn advantages
B  levels of advantage on a task that fits into a table (numpy, `_cm2_tabular`): finer levels learn sooner
C  a judge that can be bluffed: judged reward and true completion stand side by side, and a gap is flagged.
   The paper's collapse of the finer levels is an observation at scale; it is not claimed here
D  the gradient of a larger group points nearer to the true one
E  a tiny language model through the real actors: two lookups, checklists judged by rules, labels flipped and not

    make experiment RECIPE=cm2                    all parts, about 12 minutes on 2 cores
    make experiment RECIPE=cm2 ARGS="A B C D"     the parts without a language model, about 4 minutes
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.experiments._cm2_tabular import Setting, cosines, train
from benchmarks.experiments._main import in_turn, main
from benchmarks.experiments._recipe_runs import FinishedRun, run_recipe
from benchmarks.experiments.report import Claim, largest
from raylign.actors.judge.flips import JudgedTurn, Satisfied, backfilled, flips, step_advantages
from raylign.recipes.cm2.reward import GAP_LIMIT, gap_metrics

SEED = 1
VECTOR = np.array([[1, 0, 1], [1, 1, 1], [1, 1, 1]], bool)
NEEDS = np.array([[0, 0, 0], [0, 0, 0], [0, 1, 0]], bool)
WEIGHTS = np.array([0.3, 0.3, 0.4])
CALIBRATED = {  # the digest's own simulation, 6 seeds: true completion after 20, 40 and 60 updates
    (0.0, "trajectory"): (0.72, 0.91, 0.97),
    (0.0, "turn"): (0.96, 0.99, 0.995),
    (0.0, "step"): (0.97, 0.99, 0.99),
    (0.2, "trajectory"): (0.49, 0.62, 0.73),
    (0.2, "turn"): (0.67, 0.88, 0.96),
    (0.2, "step"): (0.94, 0.98, 0.99),
}
UPDATES = (20, 40, 60)


# ----------------------------------------------------------------------------------------------------------------- A


def algebra(_: Path) -> list[Claim]:
    """The digest's vectors, and properties of random tables."""
    claims = []
    for mode, score in ((Satisfied.literal, 0.6), (Satisfied.code, 1.0), (Satisfied.gated, 1.0)):
        total = JudgedTurn(labels=VECTOR, dependencies=NEEDS, weights=WEIGHTS).step_scores(mode).sum()
        error = float(abs(total - score))
        claims.append(Claim(name=f"A/vector 1, {mode.name}: error", value=error, threshold=1e-12, relation="<="))
    most, low, high = _random_tables(10_000)
    late = np.array([[1, 0], [1, 0], [1, 0], [1, 1]], bool)
    filled = backfilled(late, np.array([[0, 0], [1, 0]], bool))[:, 1]
    wrong = float(np.abs(filled - [0, 1, 1, 1]).sum())
    one_of_three = JudgedTurn(labels=VECTOR, dependencies=NEEDS, weights=WEIGHTS).step_scores().sum() / 3
    claims += [
        Claim(name="A/vector 2, most flips of an item", value=most, threshold=1, relation="<=", note="10,000 tables"),
        Claim(name="A/vector 2, lowest R", value=low, threshold=0, relation=">="),
        Claim(name="A/vector 2, highest R", value=high, threshold=1 + 1e-12, relation="<="),
        Claim(name="A/vector 3, wrong entries of the backfill", value=wrong, threshold=0, relation="=="),
        Claim(
            name="A/vector 4, one right turn of three: error",
            value=float(abs(one_of_three - 1 / 3)),
            threshold=1e-12,
            relation="<=",
        ),
    ]
    return claims + _advantage_claims()


def _random_tables(count: int) -> tuple[float, float, float]:
    """Most flips of one item, lowest and highest turn reward."""
    rng = np.random.default_rng(0)
    most, low, high = 0.0, 1.0, 0.0
    for _ in range(count):
        steps, items = int(rng.integers(1, 7)), int(rng.integers(1, 6))
        needs = np.tril(rng.random((items, items)) < rng.random(), -1)
        weights = rng.dirichlet(np.ones(items))
        r = flips(rng.random((steps, items)) < rng.random(), needs, list(Satisfied)[int(rng.integers(3))])
        total = float((r @ weights).sum())
        most, low, high = max(most, float(r.sum(axis=0).max())), min(low, total), max(high, total)
    return most, low, high


def _advantage_claims() -> list[Claim]:
    rng = np.random.default_rng(1)
    turns = [JudgedTurn(labels=rng.random((4, 3)) < 0.2, dependencies=NEEDS, weights=WEIGHTS) for _ in range(12)]
    ever = np.array([turn.ever() for turn in turns], np.float64)
    mean = float(np.abs((ever - ever.mean(axis=0)).mean(axis=0)).max())
    four, five = (
        max(float(np.abs(part).max()) for part in step_advantages(turns[:count]) if part is not None)
        for count in (4, 5)
    )
    blocked = JudgedTurn(labels=np.array([[1, 0, 1]], bool), dependencies=NEEDS, weights=WEIGHTS)
    silent = JudgedTurn(labels=np.array([[1, 0, 0]], bool), dependencies=NEEDS, weights=WEIGHTS)
    unearned, unlabelled = (step_advantages([*turns[:6], last]) for last in (blocked, silent))
    moved = largest(
        float(np.abs(a - b).max()) for a, b in zip(unearned, unlabelled, strict=True) if a is not None and b is not None
    )
    return [
        Claim(name="A/mean of indicator - b over the group", value=mean, threshold=1e-12, relation="<="),
        Claim(name="A/advantage with 4 holders", value=four, threshold=0, relation="=="),
        Claim(name="A/advantage with 5 holders", value=five, threshold=0, relation=">"),
        Claim(name="A/effect of an item that could not be earned", value=moved, threshold=0, relation="=="),
    ]


# -------------------------------------------------------------------------------------------------------------- B, C


def levels(_: Path, seeds: int = 3) -> list[Claim]:
    """True completion after 20, 40 and 60 updates, by level and flip rate."""
    claims: list[Claim] = []
    for flip in (0.0, 0.2):
        by_level = {}
        for level in ("trajectory", "turn", "step"):
            runs = [train(Setting(level=level, flip=flip), UPDATES, SEED + seed) for seed in range(seeds)]
            means = [float(np.mean([run[update][0] for run in runs])) for update in UPDATES]
            by_level[level] = means[0]
            calibrated = CALIBRATED[flip, level]
            note = f"then {', '.join(f'{m:.2f}' for m in means[1:])}; calibrated {', '.join(map(str, calibrated))}"
            claims.append(Claim(name=f"B/q={flip:g} {level}: after {UPDATES[0]}", value=means[0], note=note))
        ahead = by_level["turn"] - by_level["trajectory"]
        behind = by_level["step"] - by_level["turn"]
        claims += [
            Claim(name=f"B/q={flip:g} turn - trajectory, after 20", value=ahead, threshold=0.10, relation=">="),
            Claim(
                name=f"B/q={flip:g} step - turn, after 20",
                value=behind,
                threshold=-0.01,
                relation=">=",
                note="step >= turn; 1 % for noise where both are near 1",
            ),
        ]
    return claims


def bluffed(_: Path, updates: int = 240) -> list[Claim]:
    """The trajectory level with a bluffing action that the judge believes with probability 0.8, and with 0."""
    claims = []
    for bluff, flagged in ((0.8, 1.0), (0.0, 0.0)):
        runs = [train(Setting(level="trajectory", flip=0.1, bluff=bluff), (updates,), SEED + s) for s in range(2)]
        true, judged = (float(np.mean([run[updates][i] for run in runs])) for i in (0, 1))
        metrics = gap_metrics([judged], [true])
        note = f"judged {judged:.3f}, true {true:.3f}, gap {metrics['cm2/judge_gap']:.3f}, limit {GAP_LIMIT}"
        claims.append(
            Claim(
                name=f"C/bluff {bluff:g}: flagged",
                value=metrics["cm2/judge_gap_alarm"],
                threshold=flagged,
                relation="==",
                note=note,
            )
        )
    return claims


# ----------------------------------------------------------------------------------------------------------------- D


def group_sizes(_: Path) -> list[Claim]:
    """Mean cosine between the gradient of one group and that of a large sample."""
    by_size = cosines((6, 12, 24, 48), SEED)
    claims = [Claim(name=f"D/cosine at G={size}", value=value) for size, value in by_size.items()]
    return claims + [
        Claim(
            name=f"D/cosine, G={large} - G={small}",
            value=by_size[large] - by_size[small],
            threshold=0,
            relation=">",
        )
        for small, large in ((12, 24), (24, 48))
    ]


# ----------------------------------------------------------------------------------------------------------------- E


def language_model(folder: Path) -> list[Claim]:
    """Held-out checklist reward and turn-2 reach before and after, without and with a tenth of the labels flipped.

    Rewards of the run with flips are those of the judge without error (`TrueCompletion`), the judged ones stand beside.
    """
    clean = tiny_run(folder)
    flipped = tiny_run(folder, flip=0.1)
    claims: list[Claim] = []
    for name, run, gain in (("no flips", clean, 0.15), ("flip rate 0.1", flipped, 0.08)):
        before, after = (run.metrics[f"{stage}/eval/reward/checklist"] for stage in ("before", "after"))
        reach = [run.metrics[f"{stage}/eval/cm2/reached_turn_2"] for stage in ("before", "after")]
        true = [run.metrics[f"{stage}/eval/reward/truth"] for stage in ("before", "after")]
        claims += [
            Claim(
                name=f"E/{name}: held-out reward, after - before",
                value=after - before,
                threshold=gain,
                relation=">=",
                note=f"{before:.3f} -> {after:.3f}; without the judge's errors {true[0]:.3f} -> {true[1]:.3f}",
            ),
            Claim(
                name=f"E/{name}: share reaching turn 2, after - before",
                value=reach[1] - reach[0],
                threshold=0,
                relation=">",
                note=f"{reach[0]:.3f} -> {reach[1]:.3f}",
            ),
        ]
    start = clean.metrics["before/eval/reward/checklist"]
    claims.append(
        Claim(
            name="E/reward of the warm start", value=start, threshold=(0.35, 0.65), relation="within", note="about .5"
        )
    )
    return claims


def tiny_run(folder: Path, flip: float = 0.0) -> FinishedRun:
    """The recipe at scale=tiny; the run with flips starts from the same fine-tuned model."""
    common = [f"seed={SEED}", "telemetry.rollouts_per_step=8", "run.stall_s=1800", "run.deadline_s=1800"]
    if not flip:
        return run_recipe("cm2", folder / "E-clean", common)
    examiner = "environment.fn.examiner"
    judge = f"{examiner}.judge.model.settings={{flip:{flip}}}"
    start = [f"model.path={folder / 'E-clean' / 'stages' / 'sft' / 'model'}", "~stages.sft"]
    return run_recipe("cm2", folder / f"E-flip-{flip:g}", [*common, *start, judge, f"{examiner}.independent=true"])


if __name__ == "__main__":
    parts = {"A": algebra, "B": levels, "C": bluffed, "D": group_sizes, "E": language_model}
    main("cm2", __doc__, parts, {"seed": SEED}, in_turn)
