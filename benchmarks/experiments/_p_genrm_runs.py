"""Part C of P-GenRM's experiment: the recipe itself. All arms of all seeds go on from one imitator, two runs a seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.experiments._recipe_runs import FinishedRun, run_recipe, stage, together
from benchmarks.experiments.report import REAL, Claim, by_seed, largest, positive

SEEDS = (4, 5, 6)
PATIENT = ["run.stall_s=1800", "run.deadline_s=1800"]
IMITATION = ["seed=1", "stages.sft.steps=600", "stages.sft.optim.warmup_steps=30"]
STEPS, MORE, UPDATES = 20, 8, 2  # of every arm from the imitator; of stage 3, and of stage 2 in its place; in a step
TARGET = "raylign.recipes.p_genrm"
FORM = {"_target_": f"{TARGET}.toy.LetterChains"}
LEARNS = {
    "prompts_per_step": 64,
    "group_size": 8,
    "minibatches": UPDATES,
    "view": {"_target_": f"{TARGET}.Asked", "part": "train", "form": FORM},
}
JUDGED = {"judged": {"_target_": f"{TARGET}.Judgements"}}
LOOK = {
    "split": "train",
    "prompts": 1536,  # all of the test split
    "greedy": False,
    "weights": {"outcome": 1, "process": 0, "format": 0},
    "measures": JUDGED,
}
TEST = {"_target_": f"{TARGET}.Asked", "part": "test", "form": FORM}
ARMS: Mapping[str, tuple[float, float]] = {"both": (0.5, 1.0), "outcome": (0.0, 1.0), "process": (1.0, 0.0)}
SCALED: Mapping[str, tuple[int, int, int]] = {"ind12": (12, 0, 384), "users84": (8, 4, 1536)}  # m, n, items
DROPPED = ("cre", "mine", "hard", "library", "prototypes", "alone", "users", "ood")
EMBEDDER = {"_target_": "raylign.actors.embed.HashedNgrams", "characters": [1, 2], "words": [], "dimensions": 64}


class Runs(NamedTuple):
    """Of one seed: the arm with both rewards and all that follows from it, and the other arms."""

    main: FinishedRun
    others: FinishedRun

    def figure(self, name: str) -> float:
        """By its name ``stage/metric``."""
        return self.main.metrics[name] if name in self.main.metrics else self.others.metrics[name]


def language_model(folder: Path) -> list[Claim]:
    """The digest's third experiment, the curriculum of its fourth, and scaling over users."""
    start = imitator(folder)
    longer, shorter = ([partial(run, folder, start, seed) for seed in SEEDS] for run in (main_run, other_arms))
    ended = together([*longer, *shorter])
    runs = [Runs(main, others) for main, others in zip(ended[: len(SEEDS)], ended[len(SEEDS) :], strict=True)]
    claims = [_figure(name, runs) for name in ("imitator", *ARMS, "stage2", "stage3", *SCALED, "others")]
    both, outcome, process = (_of(runs, name, "outcome") for name in ARMS)
    covers = _of(runs, "both", "process") - _of(runs, "outcome", "process")
    hard = np.array([_hard_gain(done.main) for done in runs])
    scaled = _of(runs, "users84", "outcome") - _of(runs, "stage3", "outcome")
    claims += [
        positive("C/accuracy, (.5, 1) - SFT", both - _of(runs, "imitator", "outcome"), "digest wishes for .05"),
        positive("C/accuracy, (.5, 1) - (1, 0)", both - process, "digest wishes for .02"),
        positive("C/coverage of criteria, (.5, 1) - (0, 1)", covers, "digest wishes for .10"),
        positive("C/accuracy on hard items, stage 3 - more of stage 2", hard, "digest wishes for .02"),
        positive("C/accuracy, (8, 4) chains - one", scaled, "abstract"),
        positive("C/accuracy on unseen kinds of users - .5", _of(runs, "others", "outcome") - 0.5, "abstract"),
        Claim(
            name="C/hard share, largest distance from the schedule",
            value=largest(_distance(done.main) for done in runs),
            threshold=0.03,
            relation="<=",
            note=f"{REAL}, over phases and seeds",
        ),
    ]
    parsed = {name: float(np.mean(_of(runs, name, "parsed"))) for name in ARMS}
    worst = min(parsed, key=lambda name: parsed[name])
    claims.append(
        Claim(
            name="C/parse rate, least of the arms",
            value=parsed[worst],
            threshold=0.98,
            relation=">=",
            note=f"{REAL}, {worst}",
        )
    )
    for name, gains in (
        ("(0, 1) - (1, 0)", outcome - process),
        ("(8, 4) - 12 own", _of(runs, "users84", "outcome") - _of(runs, "ind12", "outcome")),
    ):
        claims.append(
            Claim(name=f"C/accuracy, {name}", value=float(gains.mean()), note=f"{REAL}, seeds {by_seed(gains)}")
        )
    return claims


def imitator(folder: Path) -> str:
    """The model after psi and sft of the recipe."""
    plain = [*IMITATION, *_plain("sft/nll"), *_without(DROPPED)]
    return run_recipe("p_genrm", folder / "C-imitator", plain).model("sft")


def other_arms(folder: Path, start: str, seed: int) -> FinishedRun:
    """What the imitator knows, and the arms with one reward alone."""
    stages = [stage("imitator_after", "evaluate.Evaluate", view=TEST, samples=2, **LOOK)]
    for name in ("outcome", "process"):
        stages += _arm(name, start, samples=3)
    return _goes_on(folder, start, seed, "others", "outcome_after/eval/score", stages)


def main_run(folder: Path, start: str, seed: int) -> FinishedRun:
    """The arm with both rewards, then stages 2 and 3, prototypes, and scaling."""
    source = {"_target_": f"{TARGET}.HardNegatives", "mined": "@mined", "steps": MORE, "prompts_per_step": 64}
    asking = {"prompts_per_step": 64, "group_size": 8, "weights": {"outcome": 1}, "view": LEARNS["view"]}
    both, alone = {"format": 1, "outcome": 1, "process": 0.5}, {"format": 1, "outcome": 1}
    estimator = {"_target_": f"{TARGET}.Prototypes", "clusters": 12, "form": FORM, "embedder": EMBEDDER}
    keep = {"_target_": f"{TARGET}.InForm", "form": FORM}
    made = {"weights": {}, "view": LEARNS["view"], "keep": keep, "batch_prompts": 512, "prompts": 4096}
    stages = [
        *_arm("both", start, samples=8),  # which items are hard is what the model says that stage 3 starts from
        stage("stage2", "rl.Rl", start="@both", steps=MORE, weights=both, **LEARNS),
        stage("stage2_after", "evaluate.Evaluate", view=TEST, samples=3, **LOOK),
        stage("mined", "collect.Collect", start="@both", steps=6, **asking),
        stage("stage3", "rl.Rl", start="@both", steps=MORE, weights=alone, source=source, **LEARNS),
        stage("stage3_after", "evaluate.Evaluate", view=TEST, samples=3, **LOOK),
        stage("others_after", "evaluate.Evaluate", view={**TEST, "part": "ood"}, samples=2, **LOOK),
        stage("chains", "generate.Generate", start="@stage3", **made),
        stage("clusters", "fit.Fit", data="@chains", estimator=estimator),
    ]
    for name, (own, neighbours, items) in SCALED.items():
        strategy = {"_target_": f"{TARGET}.UserScaling", "store": "@clusters", "own": own, "neighbours": neighbours}
        strategy |= {"form": FORM, "embedder": EMBEDDER}
        scaled = {**LOOK, "view": TEST, "strategy": strategy, "prompts": items}  # 12 chains each
        stages.append(stage(f"{name}_after", "evaluate.Evaluate", start="@stage3", **scaled))
    return _goes_on(folder, start, seed, "main", "stage3_after/eval/score", stages)


def _arm(name: str, start: str, samples: int) -> list[str]:
    """An arm of `ARMS` from the imitator, and what it knows then."""
    alpha, beta = ARMS[name]
    weights = {"format": 1, "outcome": beta, "process": alpha}
    return [
        stage(name, "rl.Rl", start=start, steps=STEPS, weights=weights, **LEARNS),
        stage(f"{name}_after", "evaluate.Evaluate", view=TEST, samples=samples, **LOOK),
    ]


def _goes_on(folder: Path, start: str, seed: int, name: str, headline: str, stages: Sequence[str]) -> FinishedRun:
    """A run from the imitator. Its users are those of its seed, of the same kinds as the imitator's."""
    plain = [f"seed={seed}", *_plain(headline), f"model.path={start}", *_without(("psi", "sft", *DROPPED))]
    plain.append("objective.old_logprob=sampler")
    return run_recipe("p_genrm", folder / f"C-{seed}-{name}", [*plain, *stages])


def _plain(headline: str) -> list[str]:
    return [f"telemetry.headline={headline}", "telemetry.rollouts_per_step=0", *PATIENT]


def _without(names: Sequence[str]) -> list[str]:
    return [f"~stages.{name}" for name in names]


def _of(runs: Sequence[Runs], name: str, figure: str) -> np.ndarray:
    """A figure of the evaluation after an arm, by seed."""
    head = f"{name}_after/eval/" + ("judged" if figure == "parsed" else "reward")
    return np.array([done.figure(f"{head}/{figure}") for done in runs])


def _hard_gain(done: FinishedRun) -> float:
    """Accuracy after stage 3 less that after more of stage 2, on items that the model before both judged wrongly as
    often as not (at most half of 8 chains right).
    """
    rates = {name: _rates(done.rollouts(f"{name}_after")) for name in ("both", "stage2", "stage3")}
    hard = [prompt for prompt, rate in rates["both"].items() if rate <= 0.5]
    return float(np.mean([rates["stage3"][prompt] - rates["stage2"][prompt] for prompt in hard]))


def _rates(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    scores: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        scores[row["prompt"]].append(row["rewards"]["outcome"]["score"])
    return {prompt: float(np.mean(values)) for prompt, values in scores.items()}


def _distance(done: FinishedRun) -> float:
    """The largest distance of a phase's realised share of hard items from what was scheduled."""
    last = {line["source/phase"]: line for line in done.steps("stage3")}
    return largest(abs(line["source/hard_share"] - line["source/scheduled"]) for line in last.values())


def _figure(name: str, runs: Sequence[Runs]) -> Claim:
    parsed = float(np.mean(_of(runs, name, "parsed")))
    note = f"parsed {parsed:.3f}"
    if name not in SCALED:
        note = f"coverage {float(np.mean(_of(runs, name, 'process'))):.3f}, {note}"
    accuracy = _of(runs, name, "outcome")
    return Claim(
        name=f"C/{name}: accuracy", value=float(accuracy.mean()), note=f"{REAL}: {note}, seeds {by_seed(accuracy)}"
    )
