"""Sci-CoE (arXiv:2602.12164): what a faithful small-scale experiment must show, with the digest's thresholds.

A  the numbers: a table of four solutions and five strategies worked out by hand; permutations, doubles, outliers
B  the collapse world (simulated policies, `_sci_coe_world`; rewards are the recipe's): 16 arms of three seeds. Naive
   consensus drifts off the topic, reliability stops that, diversity keeps more than one way of judging, anchors help
C  a tiny language model through the real actors, four seeds: anchored on 80 labels, then 40 steps without any;
   beside it the naive consensus, no anchors, and half the unlabelled questions (so that it has twice as many). The two
   rules are followed to 100 steps, five to one of the anchored stage: kinds of strategies die out slowly

    make experiment RECIPE=sci_coe                   all parts, about 20 minutes on 2 cores
    make experiment RECIPE=sci_coe ARGS="A B"        the parts without a language model, about 5 minutes

Thresholds of A and B are the digest's calibrated ones. Those of C are not calibrated: they gate the sign of the effect,
above 0 by two standard errors over the seeds, and name the number that the digest wishes for. Chosen after a look: that
kinds of strategies are compared after 100 steps. After the digest's 40 both rules had 1.1 nat left, and fell on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.experiments._main import in_turn, main
from benchmarks.experiments._recipe_runs import FinishedRun, run_recipe, stage, together
from benchmarks.experiments._sci_coe_world import Arm, Outcome, train
from benchmarks.experiments.report import REAL, SIMULATED, Claim, least, positive
from raylign.recipes.sci_coe.geometry import (
    Combine,
    LabelRule,
    Rules,
    combined,
    consensus,
    diversity,
    normalised,
    pseudo_labels,
    reliability,
    terms,
)
from raylign.recipes.sci_coe.k_means import k_means

SEEDS, RUN_SEEDS = (1, 2, 3), (1, 2, 3, 4)
WEIGHTS = (1.0, 0.5, 1.0)
J = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [0, 1, 0, 0, 1], [0, 1, 0, 0, 0]], np.float64)
E = np.array([[1, 0], [0.8, 0.6], [-1, 0], [-0.8, 0.6], [-0.8, -0.6]], np.float64)
RULES = Rules(tau=0.8, label=LabelRule.relative, leave_one_out=False, clusters=2)
SCALE = 2**0.5 + 1e-8
BY_HAND = {
    "c": [0.8, 0.6, 0.4, 0.2],
    "chat": [1, 0.75, 0.5, 0.25],
    "yhat": [1, 0, 0, 0],
    "C": [2 / 3, 0, 2 / 3, 1, -1 / 3],
    "r": [1 - x**0.5 / SCALE for x in (0.1, 0.1, 0.16 / 9, 0.04 / 9 + 0.36, 0.04 / 9 + 0.36)],
}


# ----------------------------------------------------------------------------------------------------------------- A


def numbers(_: Path) -> list[Claim]:
    """The digest's first experiment."""
    parts = terms(J, E, RULES, seed=0)
    shares = consensus(J)
    labels = pseudo_labels(shares, RULES.tau, RULES.label)
    d = _d_by_hand()
    total = np.array(BY_HAND["C"]) + 0.5 * np.array(BY_HAND["r"]) + d
    given = {
        "c": (shares, BY_HAND["c"]),
        "chat": (normalised(shares, RULES.tau), BY_HAND["chat"]),
        "yhat": (labels, BY_HAND["yhat"]),
        "C": (parts.consistency, BY_HAND["C"]),
        "r": (parts.reliability, BY_HAND["r"]),
        "d": (parts.diversity, d),
        "R_v": (combined(parts, WEIGHTS, Combine.sum), total),
    }
    claims = [
        _exact(f"A/table, {name}: error", float(np.abs(np.subtract(ours, hand, dtype=float)).max()), 1e-9)
        for name, (ours, hand) in given.items()
    ]
    order = np.array([3, 0, 4, 2, 1])
    moved = combined(terms(J[:, order], E[order], RULES, seed=0), WEIGHTS, Combine.sum)
    claims.append(_exact("A/permuted strategies: error", float(np.abs(moved - given["R_v"][0][order]).max()), 1e-9))
    drops = [diversity(E)[j] - diversity(np.vstack([E, E[j]]))[[j, -1]].max() for j in range(len(E))]
    note = f"the least over five strategies; {SIMULATED}"
    claims.append(Claim(name="A/d lost by a double", value=least(drops), threshold=0, relation=">", note=note))
    crowd = np.array([[1, 0], [1, 0.02], [1, -0.02], [1, 0.01], [-0.6, 0.8]])
    vectors = crowd / np.linalg.norm(crowd, axis=1, keepdims=True)
    alone = reliability(vectors, k_means(vectors, 2, seed=0))[-1]
    claims.append(_exact("A/r of a lone outlier", float(alone), 0.0))
    return claims


def _d_by_hand() -> np.ndarray:
    """In two dimensions the plane of the principal components is the plane: angles of the centred points."""
    centred = E - E.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1)
    cosines = centred @ centred.T / np.outer(lengths, lengths)
    apart: np.ndarray = ((1 - cosines) / 2).sum(axis=1) / (len(E) - 1)
    return apart


def _exact(name: str, value: float, limit: float) -> Claim:
    return Claim(name=name, value=value, threshold=limit, relation="<=", note=f"the recipe's functions; {SIMULATED}")


# ----------------------------------------------------------------------------------------------------------------- B

NAIVE, ANCHORS = (1.0, 0.0, 0.0), 12
ARMS = {
    "naive": Arm(weights=NAIVE),
    "naive, anchors": Arm(weights=NAIVE, anchored=ANCHORS),
    "geometric": Arm(),
    "geometric, anchors": Arm(anchored=ANCHORS),
    "no reliability": Arm(weights=(1.0, 0.0, 1.0)),
    "no reliability, anchors": Arm(weights=(1.0, 0.0, 1.0), anchored=ANCHORS),
    "no diversity": Arm(weights=(1.0, 0.5, 0.0)),
    "no diversity, anchors": Arm(weights=(1.0, 0.5, 0.0), anchored=ANCHORS),
    "naive, absolute": Arm(weights=NAIVE, label=LabelRule.absolute),
    "naive, absolute, anchors": Arm(weights=NAIVE, label=LabelRule.absolute, anchored=ANCHORS),
    "geometric, absolute": Arm(label=LabelRule.absolute),
    "geometric, absolute, anchors": Arm(label=LabelRule.absolute, anchored=ANCHORS),
    "product, anchors": Arm(combine=Combine.product, anchored=ANCHORS),
    "leave one out, anchors": Arm(leave_one_out=True, anchored=ANCHORS),
    "half the questions, anchors": Arm(steps=60, anchored=ANCHORS),
    "twice the questions, anchors": Arm(steps=240, anchored=ANCHORS),
}
CALIBRATED = {  # the digest's simulation: solver accuracy, best of 8, share off the topic, effective specialists
    "naive": (0.846, 0.435, 0.93, 3.98),
    "naive, anchors": (0.944, 0.599, 0.69, 3.97),
    "geometric": (0.943, 0.866, 0.01, 2.63),
    "geometric, anchors": (0.954, 0.867, 0.01, 2.49),
    "no reliability": (0.886, 0.445, 0.90, None),
    "no reliability, anchors": (0.950, 0.772, 0.39, None),
    "no diversity": (0.937, 0.761, 0.00, 1.10),
    "no diversity, anchors": (0.950, 0.807, 0.00, 1.09),
    "naive, absolute": (0.79, None, None, None),
    "naive, absolute, anchors": (0.926, None, None, None),
    "geometric, absolute": (0.945, None, None, None),
    "geometric, absolute, anchors": (0.953, None, None, None),
}


def world(_: Path) -> list[Claim]:
    """The digest's second experiment: the means of three seeds."""
    runs = {name: [train(arm, seed) for seed in SEEDS] for name, arm in ARMS.items()}
    means = {name: _mean(outcomes) for name, outcomes in runs.items()}
    claims = [_figure(name, outcome) for name, outcome in means.items()]
    lead = means["geometric, anchors"].best_of_8 - means["naive, anchors"].best_of_8
    claims.append(_gate("B/best of 8, geometric - naive, anchors", lead, 0.15))
    for name in ("geometric", "geometric, anchors"):
        claims.append(_gate(f"B/off the topic, {name}", means[name].off_topic, 0.05, "<="))
        claims.append(_gate(f"B/effective specialists, {name}", means[name].families, 2.0))
    for name in ("no reliability", "no reliability, anchors"):
        claims.append(_gate(f"B/off the topic, {name}", means[name].off_topic, 0.30))
    for name in ("no diversity", "no diversity, anchors"):
        claims.append(_gate(f"B/effective specialists, {name}", means[name].families, 1.5, "<="))
    for ending, limit in ((", anchors", 0.01), ("", 0.05)):
        gain = means[f"geometric{ending}"].accuracy - means[f"naive{ending}"].accuracy
        claims.append(_gate(f"B/solver, geometric - naive{ending}", gain, limit))
    more = [
        twice.accuracy - once.accuracy
        for twice, once in zip(runs["geometric, anchors"], runs["half the questions, anchors"], strict=True)
    ]
    claims.append(positive("B/solver, 120 unlabelled steps - 60, anchors", more, how=SIMULATED))
    return claims


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    names = ("accuracy", "best_of_8", "off_topic", "families")
    return Outcome(**{name: float(np.mean([getattr(outcome, name) for outcome in outcomes])) for name in names})


def _figure(name: str, outcome: Outcome) -> Claim:
    values = (outcome.best_of_8, outcome.off_topic, outcome.families)
    note = f"best of 8 {values[0]:.3f}, off the topic {values[1]:.2f}, specialists {values[2]:.2f}"
    if name in CALIBRATED:
        note += f"; calibrated {', '.join('-' if value is None else f'{value:g}' for value in CALIBRATED[name])}"
    return Claim(name=f"B/{name}: solver accuracy", value=outcome.accuracy, note=f"{note}; {SIMULATED}")


def _gate(name: str, value: float, limit: float, relation: str = ">=") -> Claim:
    note = f"mean of {len(SEEDS)} seeds; {SIMULATED}"
    return Claim(name=name, value=value, threshold=limit, relation=relation, note=note)


# ----------------------------------------------------------------------------------------------------------------- C

RL, EVALUATE = "rl.Rl", "evaluate.Evaluate"
LEARNS = {"prompts_per_step": 16, "group_size": 16, "domains": ["unlabelled"]}
MEASURES = {
    "best_of_n": {"_target_": "raylign.recipes.sci_coe.BestOfN"},
    "kinds": {"_target_": "raylign.recipes.sci_coe.toy.Kinds"},
}
LOOK = {"greedy": False, "samples": 16, "weights": {"correct": 1, "geometric": 0}, "measures": MEASURES}
STEPS, LATER = 40, 60  # the digest's, and how far the two rules are followed beyond them
LOOKED = ("warm", "anchored", "after", "naive_after", "bare_after", "half_after", "later_after", "naive_later_after")


def language_model(folder: Path) -> list[Claim]:
    """The digest's third experiment: one run a seed, all arms within it, each from the same anchored model."""
    runs = together([partial(tiny_run, folder, seed) for seed in RUN_SEEDS])
    claims: list[Claim] = []
    for name in LOOKED:
        claims.append(_looked(name, runs))
    gain = [_of(run, "after", "score") - _of(run, "anchored", "score") for run in runs]
    claims.append(positive("C/solver, after stage 2 - before", gain, "no labels; wished .08"))
    labelled = [_of(run, "anchored", "score") - _of(run, "warm", "score") for run in runs]
    claims.append(positive("C/solver, after stage 1 - before", labelled, "labels"))
    wider = [_of(run, "later_after", "kinds/entropy") - _of(run, "naive_later_after", "kinds/entropy") for run in runs]
    after = f"after {STEPS + LATER} steps; wished .5 after {STEPS}"
    claims.append(positive("C/entropy of strategies, geometric - naive, nats", wider, after))
    chosen = [_of(run, "after", "best_of_n/gain") for run in runs]
    claims.append(positive("C/best of 8 by the own verifier - a sample", chosen, "wished .05"))
    told = [_of(run, "after", "sci_coe/accepted_right") - _of(run, "after", "sci_coe/accepted_wrong") for run in runs]
    claims.append(positive("C/verdicts, accepted of right - of wrong solutions", told))
    anchors = [_of(run, "after", "score") - _of(run, "bare_after", "score") for run in runs]
    claims.append(positive("C/solver, with anchors - without", anchors))
    twice = [_of(run, "after", "score") - _of(run, "half_after", "score") for run in runs]
    claims.append(positive("C/solver, twice the unlabelled questions - once", twice, "640 - 320"))
    return claims


def tiny_run(folder: Path, seed: int) -> FinishedRun:
    """The recipe at scale=tiny, and after it the other arms: naive, without anchors, on half the questions."""
    geometric, naive = {"geometric": 1, "correct": 0}, {"naive": 1, "correct": 0}
    node = "{_target_: raylign.recipes.sci_coe.Geometric, tau: 0.8, weights: [1, 0, 0]"
    node += ", judge: '${rewards.geometric.fn.judge}', embedder: '${rewards.geometric.fn.embedder}'}"
    arms = [
        stage("warm", EVALUATE, start="@warmup", **LOOK),
        stage("anchored", EVALUATE, start="@anchor", **LOOK),
        stage("naive", RL, start="@anchor", steps=STEPS, weights=naive, **LEARNS),
        stage("naive_after", EVALUATE, **LOOK),
        stage("bare", RL, start="@warmup", steps=STEPS, weights=geometric, **LEARNS),
        stage("bare_after", EVALUATE, **LOOK),
        stage("half", RL, start="@anchor", steps=STEPS // 2, weights=geometric, **LEARNS),
        stage("half_after", EVALUATE, **LOOK),
        stage("later", RL, start="@evolve", steps=LATER, weights=geometric, **LEARNS),
        stage("later_after", EVALUATE, **LOOK),
        stage("naive_later", RL, start="@naive", steps=LATER, weights=naive, **LEARNS),
        stage("naive_later_after", EVALUATE, **LOOK),
    ]
    plain = [f"seed={seed}", f"stages.evolve.steps={STEPS}", f"+rewards.naive.fn={node}", "rewards.naive.timeout_s=60"]
    quiet = ["telemetry.rollouts_per_step=0", "run.stall_s=1800", "run.deadline_s=1800"]
    return run_recipe("sci_coe", folder / f"C-{seed}", [*plain, *quiet, *arms])


def _of(run: FinishedRun, name: str, metric: str) -> float:
    return run.metrics[f"{name}/eval/{metric}"]


def _looked(name: str, runs: Sequence[FinishedRun]) -> Claim:
    """Held-out accuracy of a model, and what its verifier is like."""

    def mean(metric: str) -> float:
        return float(np.mean([_of(run, name, metric) for run in runs]))

    note = f"best of 8 {mean('best_of_n/accuracy'):.3f}, entropy {mean('kinds/entropy'):.2f} nats, "
    note += f"idle kinds {mean('kinds/idle'):.2f}; {REAL}"
    return Claim(name=f"C/{name}: held-out solver accuracy", value=mean("score"), note=note)


if __name__ == "__main__":
    parts = {"A": numbers, "B": world, "C": language_model}
    main("sci_coe", __doc__, parts, {"seeds": list(SEEDS), "run seeds": list(RUN_SEEDS)}, in_turn)
