"""Part C of `rewriter`: real runs of the recipe at scale=tiny, the base model tuned on three sets, and the sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments._recipe_runs import FinishedRun, run_recipe, stage, together
from benchmarks.experiments.report import REAL, Claim, by_seed, positive
from raylign.actors.reward.numeric import NumericAnswer
from raylign.data.readers import load_rows
from raylign.recipes.rewriter.toy import FORMATS, RightSteps, format_of, worked
from raylign.records import Prompt, Value
from raylign.testing import records

RUN_SEEDS = (1, 2, 3, 4)

SFT, EVALUATE, GENERATE = "sft.Sft", "evaluate.Evaluate", "generate.Generate"
ONLY_ANSWERS = {"correct": 1}
TOY = "raylign.recipes.rewriter.toy"
AFTER_BASE = ("general_before", "downstream_before", "warm", "rewrite", "build", "sft", "downstream", "general")
BATCH = 512  # prompts that a set is built of at a time
QUIET = ["telemetry.rollouts_per_step=0", "run.stall_s=1800", "run.deadline_s=1800"]


def language_model(folder: Path) -> list[Claim]:
    """The digest's third and fourth experiments: one run a seed, all arms within it, all from one base model."""
    base = base_model(folder)
    runs = together([partial(tiny_run, folder, base, seed) for seed in RUN_SEEDS])
    return [*_figures(runs), *_compared(runs), *_sets(runs)]


def base_model(folder: Path) -> str:
    """What the recipe's first stage makes at scale=tiny."""
    plain = [f"seed={RUN_SEEDS[0]}", *QUIET, "telemetry.headline=base/nll", *(f"~stages.{name}" for name in AFTER_BASE)]
    return run_recipe("rewriter", folder / "C-base", plain).model("base")


def tiny_run(folder: Path, base: str, seed: int) -> FinishedRun:
    """The recipe at scale=tiny from a base model, and after it that model tuned on two other sets, alike."""
    view = {"_target_": "raylign.recipes.rewriter.Rewriting", "template": "{question}{solution}"}
    keep = {"_target_": "raylign.recipes.stages.keep.Passing", "at_least": 1}
    taken = {"greedy": True, "sampling": {"temperature": 0, "max_tokens": 30}, "weights": {"gate": 1}}
    sampled = {"greedy": False, "samples": 4, "weights": {"gate": 1}, "view": view}
    built = {"view": view, "keep": keep, "otherwise": "target", "batch_prompts": BATCH, **taken}
    arms = [  # in this order engines change their model least often
        stage("passing_untrained", EVALUATE, start="@warm", **sampled),
        stage("build_untrained", GENERATE, start="@warm", **built),
        *_tuned("untrained", base, "@build_untrained"),
        stage("passing", EVALUATE, start="@rewrite", **sampled),
        *_tuned("expert", base, ""),
    ]
    plain = [f"seed={seed}", *QUIET, f"model.path={base}", "judges.base.path=''", "~stages.base"]
    plain += [f"stages.{name}.start={base}" for name in ("warm", "sft")]
    plain += ["stages.rewrite.lora.sync=merged"]  # the same numbers; vLLM's CPU build is slow with adapters
    plain += ["objective.old_logprob=sampler", f"stages.build.batch_prompts={BATCH}"]
    return run_recipe("rewriter", folder / f"C-{seed}", [*plain, *arms])


def _tuned(name: str, base: str, data: str) -> list[str]:
    """SFT of the base model as the recipe's own does it, and both evaluations. data: empty for the experts' texts."""
    optim = {"lr": "${stages.sft.optim.lr}", "warmup_steps": "${stages.sft.optim.warmup_steps}", "schedule": "cosine"}
    steps = {"steps": "${stages.sft.steps}", "batch_size": 64, "optim": optim}
    general = {"_target_": f"{TOY}.General"}
    measures = {
        "tasks": {"_target_": "raylign.recipes.rewriter.Tasks"},
        "forgetting": {"_target_": "raylign.recipes.rewriter.Forgetting", "before": "@general_before/tasks"},
    }
    return [
        stage(f"sft_{name}", SFT, start=base, data=data, **steps),
        stage(f"downstream_{name}", EVALUATE, weights=ONLY_ANSWERS),
        stage(f"general_{name}", EVALUATE, weights=ONLY_ANSWERS, view=general, measures=measures),
    ]


def _of(runs: Sequence[FinishedRun], metric: str) -> np.ndarray:
    return np.array([run.metrics[metric] for run in runs])


def _forgotten(runs: Sequence[FinishedRun], arm: str = "") -> np.ndarray:
    return _of(runs, f"general{arm}/eval/forgetting/mean")


def _gained(runs: Sequence[FinishedRun], arm: str = "") -> np.ndarray:
    return _of(runs, f"downstream{arm}/eval/score") - _of(runs, "downstream_before/eval/score")


def _loss(runs: Sequence[FinishedRun], arm: str = "") -> np.ndarray:
    """NLL per token of a set under the base model: of the first batch, before anything is learned from it."""
    return np.array([run.steps(f"sft{arm}")[0]["nll"] for run in runs])


def _figures(runs: Sequence[FinishedRun]) -> list[Claim]:
    """What each arm ended with, and what the rewriter was like at its start and end."""
    claims = [
        _figure("C/base model: downstream accuracy", _of(runs, "downstream_before/eval/score"), "wished .1 to .2"),
        _figure("C/base model: general accuracy", _of(runs, "general_before/eval/tasks/mean"), ""),
    ]
    for arm, name in (("_expert", "experts' texts"), ("_untrained", "untrained rewriter"), ("", "trained rewriter")):
        note = f"forgotten {by_seed(_forgotten(runs, arm))}, NLL of the set {by_seed(_loss(runs, arm))}"
        claims.append(_figure(f"C/{name}: downstream gain", _gained(runs, arm), note))
    for place, name in ((0, "first"), (-1, "last")):
        steps = [run.steps("rewrite")[place] for run in runs]
        for metric in ("passed", "m_below_2", "nll", "nll_expert", "spread", "share/distribution", "share/diversity"):
            values = [step.get(f"rewriter/{metric}", float("nan")) for step in steps]
            claims.append(_figure(f"C/{name} step of RL: {metric}", np.array(values), ""))
    return claims


def _compared(runs: Sequence[FinishedRun]) -> list[Claim]:
    """The digest's claims."""
    losses = _loss(runs) / _loss(runs, "_expert")
    experts = _forgotten(runs, "_expert")
    ratio = _forgotten(runs) / np.where(experts > 0, experts, np.nan)  # of nothing forgotten there is no share
    share = _gained(runs) / _gained(runs, "_expert")
    passed = _of(runs, "passing/eval/score") - _of(runs, "passing_untrained/eval/score")
    kept = 1 - _of(runs, "build_untrained/generate/fallback")
    untrained = _forgotten(runs, "_untrained") - _forgotten(runs)
    return [
        positive("C/NLL of the set, 1 - trained over experts'", 1 - losses, "wished .3"),
        positive("C/forgotten, 1 - trained over experts'", 1 - ratio, "wished .3"),
        positive("C/forgotten, experts' - trained", _forgotten(runs, "_expert") - _forgotten(runs)),
        positive("C/downstream gain, trained", _gained(runs), f"wished .8 of the experts': {by_seed(share)}"),
        positive("C/pass rate of the gate, trained - untrained", passed, "of samples of held-out prompts; wished .1"),
        _figure("C/pass rate of the gate, untrained, taken greedily", kept, ""),
        _figure("C/fallback share, trained", _of(runs, "build/generate/fallback"), "wished below .4"),
        _figure("C/forgotten, untrained rewriter - trained", untrained, ""),
    ]


def _figure(name: str, values: np.ndarray, note: str) -> Claim:
    words = [f"seeds {by_seed(values)}", note, REAL]
    return Claim(name=name, value=float(values.mean()), note="; ".join(filter(None, words)))


# ------------------------------------------------------------------------------------------------------- the sets


def _sets(runs: Sequence[FinishedRun]) -> list[Claim]:
    """The fallback invariant, row by row, and in which formats the rewrites are."""
    claims: list[Claim] = []
    for name in ("build", "build_untrained"):
        total = sum((_checked(run.folder / "stages" / name / "rows.jsonl") for run in runs), Counter[str]())
        inputs = int(_of(runs, f"{name}/generate/prompts").sum())
        kept = {form: total[form] / max(1, total["rewritten"]) for form in FORMATS}
        shares = ", ".join(f"{form} {share:.2f}" for form, share in kept.items())
        claims += [
            _equal(f"C/{name}: rows - inputs", total["rows"] - inputs, f"of {inputs}"),
            _equal(f"C/{name}: rewrites that do not pass", total["wrong"], f"of {total['rewritten']}; {shares}"),
            _equal(f"C/{name}: fallbacks that are not y*", total["changed"], f"of {total['fallback']}"),
        ]
    return claims


def _checked(path: Path) -> Counter[str]:
    """Counts of a built set, by format too; the gate is asked once more."""
    counts = Counter[str]()
    answers, steps = NumericAnswer(NumericAnswer.Config()), RightSteps(RightSteps.Config())
    for row in load_rows(path)[1]:
        question, target = str(row.messages[-1]["content"]), str(row.target)
        work = worked(question)
        counts["rows"] += 1
        if row.meta["generated"]["from"] == "prompt":
            counts["fallback"] += 1
            counts["changed"] += target.encode() != FORMATS["expert"](work).encode()
            continue
        counts["rewritten"] += 1
        prompt = records.prompt(text=question, answer=str(work.result))
        counts["wrong"] += not all(_accepts(check, prompt, target) for check in (answers, steps))
        counts[format_of(target, question)] += 1
    return counts


def _accepts(check: Any, prompt: Prompt, text: str) -> bool:
    value: Value = check.judge(prompt, text)
    return value.score == 1.0


def _equal(name: str, value: int, note: str) -> Claim:
    return Claim(name=name, value=value, threshold=0, relation="==", note=f"{note}; {REAL}")
