"""InjectRBP (arXiv:2602.12013): what a faithful small-scale experiment must show, with the digest's thresholds.

A  a simulated reasoner whose chains succeed by their patterns (numpy, `_inject_rbp_markov`), 15 seeds, three sizes of
   history: right answers help, wrong ones hurt, the reliability-aware policy is above both and above the naive softmax
B  the policy in closed form: a lucky action that was seen once wins the naive softmax, and not the reliable one
C  a tiny language model through the real actors, three seeds of 500 questions: it follows an injected plan, answers by
   InjectRLOpt > InjectCorrect > none, nothing of its weights changes; patterns differ by family and by outcome
D  real text: 660 questions of GSM8K with the solutions of four models, parsed; right and wrong ones, questions about
   money and others

    make experiment RECIPE=inject_rbp                    all parts; the recipe's card has the measured cost
    make experiment RECIPE=inject_rbp ARGS="A B D"       the parts without a language model, a minute

Thresholds are the digest's, those of A and B calibrated. What a note calls a sign must be above 0 by two standard
errors over the seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.experiments._inject_rbp_markov import simulate
from benchmarks.experiments._main import in_turn, main
from benchmarks.experiments._recipe_runs import FinishedRun, run_recipe, together
from benchmarks.experiments.report import REAL, ROOT, SIMULATED, Claim, largest, least, positive
from raylign.contracts import PlacedRow
from raylign.recipes.inject_rbp.patterns import frequencies
from raylign.recipes.inject_rbp.policies import Softmax
from raylign.recipes.inject_rbp.table import PatternTable
from raylign.recipes.inject_rbp.values import ValueEstimate

SEEDS = (1, 2, 3)
SIMULATED_SEEDS = range(15)
HISTORIES = (150, 500, 3000)
CALIBRATED = {"none": 0.288, "incorrect": 0.257, "correct": 0.371, "naive": 0.443, "rasp": 0.470}  # at 500
TEXT = "real text, no actor"
SOLUTIONS = ROOT.parent / "shared" / "data" / "gsm8k" / "model_solutions.jsonl"
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
ARMS = ("correct", "rlopt", "naive", "incorrect", "random", "cross")


# -------------------------------------------------------------------------------------------------------------- A, B


def simulated(_: Path) -> list[Claim]:
    """Mean P(right) of every arm, over seeds."""
    runs = {size: [simulate(size, seed) for seed in SIMULATED_SEEDS] for size in HISTORIES}
    mean = {size: _means(each) for size, each in runs.items()}
    fitted = _means([simulate(500, seed, values=ValueEstimate.fqi) for seed in SIMULATED_SEEDS])
    at = mean[500]
    note = f"{SIMULATED}; 500 chains, {len(SIMULATED_SEEDS)} seeds"
    claims = [
        Claim(name="A/incorrect - none", value=at["incorrect"] - at["none"], threshold=-0.01, relation="<=", note=note),
        Claim(name="A/correct - none", value=at["correct"] - at["none"], threshold=0.05, relation=">=", note=note),
        Claim(name="A/rasp - correct", value=at["rasp"] - at["correct"], threshold=0.05, relation=">=", note=note),
        Claim(name="A/rasp - naive", value=at["rasp"] - at["naive"], threshold=0.01, relation=">=", note=note),
    ]
    for size, arms in mean.items():
        for name, value in arms.items():
            calibrated = f", calibrated {CALIBRATED[name]}" if size == 500 else ""
            claims.append(Claim(name=f"A/{name}, {size} chains", value=value, note=f"{SIMULATED}{calibrated}"))
    note = f"{SIMULATED}; Q-iteration in place of Monte Carlo"
    return [*claims, Claim(name="A/rasp by fqi, 500 chains", value=fitted["rasp"], note=note)]


def closed_form(_: Path) -> list[Claim]:
    """One state, four actions: N = (200, 1, 1, 1), Q = (0.6, 1, 0, 1)."""
    q, n = np.array([0.6, 1, 0, 1]), np.array([200, 1, 1, 1])
    often = {name: float(Softmax(tau=0.05, kappa=k, least=3).probabilities(q, n)[0]) for name, k in _KAPPAS.items()}
    note = f"{SIMULATED}; closed form, of the action with 200 visits"
    return [
        Claim(name="B/naive softmax", value=often["naive"], threshold=0.001, relation="<", note=note),
        Claim(name="B/reliability-aware", value=often["rasp"], threshold=0.40, relation=">=", note=note),
    ]


_KAPPAS = {"naive": 0.0, "rasp": 5.0}


def _means(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}


# ----------------------------------------------------------------------------------------------------------------- C


def language_model(folder: Path, seeds: Sequence[int] = SEEDS) -> list[Claim]:
    """Arms of one run a seed, on the same questions with the same seeds."""
    runs = together([partial(one_seed, folder, seed) for seed in seeds])
    scores = {arm: [run.metrics[f"{arm}/eval/score"] for run in runs] for arm in ("none", *ARMS, "rlopt_fqi")}
    mean = {arm: float(np.mean(values)) for arm, values in scores.items()}
    count = f"{REAL}; {len(seeds)} seeds"
    l1 = {arm: [run.metrics.get(f"{arm}/eval/behaviour/l1", np.nan) for run in runs] for arm in ("none", "rlopt")}
    left = float(np.max([after / before for after, before in zip(l1["rlopt"], l1["none"], strict=True)]))
    unchanged = least(run.metrics["unchanged/seal/unchanged"] for run in runs)
    ordered = least([mean["rlopt"] - mean["correct"], mean["correct"] - mean["none"]])
    every = f"{count}, the worst of them"
    claims = [
        Claim(name="C/L1 with injection / without", value=left, threshold=0.5, relation="<=", note=every),
        Claim(name="C/rlopt > correct > none, smaller gap", value=ordered, threshold=0, relation=">", note=count),
        Claim(name="C/rlopt - none", value=mean["rlopt"] - mean["none"], threshold=0.05, relation=">=", note=count),
        Claim(name="C/fingerprint unchanged", value=unchanged, threshold=1, relation="==", note=every),
        *(
            positive(f"C/correct - {arm}", np.subtract(scores["correct"], scores[arm]))
            for arm in ("incorrect", "cross")
        ),
        *(_largest_p(name, key, runs) for name, key in _TESTS.items()),
    ]
    for arm, value in mean.items():
        spread = ", ".join(f"{each:.3f}" for each in scores[arm])
        claims.append(Claim(name=f"C/accuracy {arm}", value=value, note=f"{count}: {spread}"))
    return claims + [_report(f"C/{name}, {arm}", f"{arm}/eval/behaviour/{name}", runs) for name, arm in _REPORTED]


_TESTS = {"outcomes": "outcome", "families": "families/slips"}
_REPORTED = [(name, arm) for name in ("chain_length", "tokens") for arm in ("none", "correct", "rlopt")]


def one_seed(folder: Path, seed: int) -> FinishedRun:
    """The recipe at scale=tiny, one sample of every question by arm, and a second table by Q-iteration."""
    fitted = "{_target_:raylign.recipes.stages.fit.Fit,data:'@history',estimator:{values:fqi,"
    fitted += "_target_:raylign.recipes.inject_rbp.PatternTable,behaviours:'${stages.fit.estimator.behaviours}'}}"
    view = "{_target_:raylign.recipes.inject_rbp.Inject,store:'@fit_fqi',arm:rlopt,form:chain,block:'{chain}|',"
    view += "step:'{number}{letter}',between:''}"
    arm = f"{{_target_:raylign.recipes.stages.evaluate.Evaluate,greedy:false,view:{view}}}"
    samples = [f"stages.{name}.samples=1" for name in ("none", *ARMS)]
    more = [f"stages.fit_fqi={fitted}", f"stages.rlopt_fqi={arm}"]
    return run_recipe("inject_rbp", folder / f"C-seed{seed}", [f"seed={seed}", *samples, *more])


def _largest_p(name: str, key: str, runs: Sequence[FinishedRun]) -> Claim:
    p = largest(run.metrics[f"fit/fit/p/{key}"] for run in runs)
    apart = ", ".join(f"{run.metrics[f'fit/fit/js/{key}']:.3f}" for run in runs)
    note = f"{REAL}; by permutation, the largest of the seeds; divergences {apart} bits"
    return Claim(name=f"C/p that {name} have one distribution", value=p, threshold=0.05, relation="<", note=note)


def _report(name: str, key: str, runs: Sequence[FinishedRun]) -> Claim:
    return Claim(name=name, value=float(np.mean([run.metrics[key] for run in runs])), note=REAL)


# ----------------------------------------------------------------------------------------------------------------- D


def real_text(_: Path) -> list[Claim]:
    """The identity of the sums, and both differences, on published solutions."""
    if not SOLUTIONS.exists():
        raise SystemExit(f"part D needs {SOLUTIONS}; see ../shared/data/README.md")
    lines = [json.loads(line) for line in SOLUTIONS.read_text().splitlines()]
    rows = [
        PlacedRow(
            f"{SOLUTIONS.name}:{number}:{model}",
            {**line[model], "question": line["question"], "about": "money" if "$" in line["question"] else "other"},
        )
        for number, line in enumerate(lines, 1)
        for model in MODELS
    ]
    behaviours = {
        "_target_": "raylign.recipes.inject_rbp.BehaviourParser",
        "separator": "newline",
        "lexicon": {"C": ["a:"]},
    }
    table = PatternTable(
        PatternTable.Config(text="solution", score="is_correct", by="about", question="question", behaviours=behaviours)
    )
    metrics = table.fit(rows, seed=1)
    chains = [trace.chain for trace in table.traces]
    gap = int(frequencies(chains).sum()) - sum(max(0, len(chain) - 2) for chain in chains)
    note = f"{TEXT}; {len(rows)} solutions of {len(lines)} questions"
    return [
        Claim(name="D/sum of frequencies - sum of places", value=gap, threshold=0, relation="==", note=note),
        Claim(name="D/JS of right and wrong, bits", value=metrics["js/outcome"], threshold=0, relation=">", note=note),
        Claim(name="D/p that they are one", value=metrics["p/outcome"], threshold=0.05, relation="<", note=note),
        Claim(name="D/p of that within questions", value=metrics["p_within_question/outcome"], note=note),
        Claim(name="D/JS of money and others, bits", value=metrics["js/families/money"], note=note),
        Claim(
            name="D/p that money and others are one",
            value=metrics["p/families/money"],
            note=f"{note}; questions permuted",
        ),
        Claim(name="D/share with three paragraphs", value=metrics["structured"], note=note),
    ]


if __name__ == "__main__":
    parts = {"A": simulated, "B": closed_form, "C": language_model, "D": real_text}
    main("inject_rbp", __doc__, parts, {"seeds": SEEDS, "simulated seeds": len(SIMULATED_SEEDS)}, in_turn)
