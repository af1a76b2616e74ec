"""The parts of BAO's experiment that run the recipe itself: the command line, Ray, vLLM, DeepSpeed, real gyms.

A run teaches (or does not), imitates, and learns several times from the model that imitated, each time evaluated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments._recipe_runs import FinishedRun, run_recipe, stage, together
from benchmarks.experiments.report import REAL, ROOT, Claim, by_seed, positive
from raylign.actors.environments.user_gyms.small import SmallFunctions
from raylign.chat.template import ChatTemplate
from raylign.config.compose import compose
from raylign.config.schema import TinyModel
from raylign.data.prompts import load_prompts
from raylign.models.tiny import build_tiny_model
from raylign.models.tokenizer import load_tokenizer
from raylign.recipes.bao.measures import pareto
from raylign.records import Prompt

ENTITIES = ROOT.parent / "shared" / "data" / "userrl" / "entities.json"
SEEDS = (1, 2, 3)
UPDATES = 30
EFFORT = {"effort": {"_target_": "raylign.recipes.bao.UserEffort"}}
SHAPER = {"_target_": "raylign.recipes.bao.BehaviourShaper", "gamma": 1.0}
OFF = {"shaper": {**SHAPER, "answer": 0.0, "think": 0.0}}
ON = {"shaper": {**SHAPER, "answer": 0.2, "think": 0.1}}
READY = {"_target_": "raylign.objectives.advantage.turn.TurnAdvantage", "level": "step", "std": "none"}
FLAGS = ("turn", "user", "valid", "success", "user_turns", "valid_turns", "choice", "thought")
Arm = Mapping[str, Any]


def userrl(turns: str) -> Arm:
    """One of UserRL's estimators."""
    return {
        "shaper": {"_target_": "raylign.recipes.bao.UserRlCredits", "trajectory": "r2g", "turns": turns},
        "advantage": READY,
    }


TWO: Mapping[str, Arm] = {"off": OFF, "on": ON}
ESTIMATORS: Mapping[str, Arm] = {name: userrl(name) for name in ("equalized", "r2g", "em")}
TAUGHT_FIRST = {**TWO, **ESTIMATORS}  # arms of the first seed


def run(folder: Path, seed: int, taught: bool, arms: Mapping[str, Arm]) -> FinishedRun:
    """One run: teach, imitate, evaluate, and for each arm learn from there and evaluate."""
    stages = []
    for name, arm in arms.items():
        learning = {"steps": UPDATES, "prompts_per_step": 16, "group_size": 8, **arm}
        stages.append(stage(name, "rl.Rl", start="@sft", **learning))
        asking = {"split": "train", "greedy": False, "samples": 2, "measures": EFFORT}
        stages.append(stage(f"{name}_after", "evaluate.Evaluate", **asking))
    overrides = [
        f"seed={seed}",
        "~stages.rl",
        "~stages.after",
        *([] if taught else ["stages.teach.view={}"]),
        *stages,
        "telemetry.rollouts_per_step=0",
    ]
    return run_recipe("bao", folder / f"F-{'taught' if taught else 'plain'}-{seed}", overrides)


def figures(done: FinishedRun, arm: str) -> dict[str, float]:
    """What the evaluation after an arm measured."""
    head = f"{arm}/eval/effort/" if arm == "before" else f"{arm}_after/eval/effort/"
    return {name.removeprefix(head): value for name, value in done.metrics.items() if name.startswith(head)}


def language_model(folder: Path) -> list[Claim]:
    """2 x 2 of behaviour enhancement and regularisation, and UserRL's estimators; means over the seeds."""
    jobs = []
    for seed in SEEDS:
        jobs.append(partial(run, folder, seed, True, TAUGHT_FIRST if seed == SEEDS[0] else TWO))
        jobs.append(partial(run, folder, seed, False, {**TWO, "equalized": ESTIMATORS["equalized"]}))
    runs = together(jobs)
    taught, plain = runs[0::2], runs[1::2]
    arms = {
        "taught, penalties": [figures(done, "on") for done in taught],
        "taught, none": [figures(done, "off") for done in taught],
        "plain, penalties": [figures(done, "on") for done in plain],
        "plain, none": [figures(done, "off") for done in plain],
        "plain, UserRL equalized": [figures(done, "equalized") for done in plain],
        **{f"taught, UserRL {name}": [figures(taught[0], name)] for name in ESTIMATORS},
        "taught, before": [figures(done, "before") for done in taught],
        "plain, before": [figures(done, "before") for done in plain],
    }
    return [*_contrasts(arms), *_scatter(arms), _mismatches(taught[0], "on")]


def _contrasts(arms: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Claim]:
    def of(arm: str, name: str) -> np.ndarray:
        return np.array([numbers[name] for numbers in arms[arm]])

    on, off = of("taught, penalties", "ur"), of("taught, none", "ur")
    lost = of("taught, none", "score") - of("taught, penalties", "score")
    base_lost = of("plain, UserRL equalized", "score") - of("taught, penalties", "score")
    return [
        positive(
            "F/UR saved by penalties",
            off - on,
            f"{float(1 - on.mean() / off.mean()):.0%} of it, the digest wishes for 25 %; no policy here is below 1/3",
        ),
        Claim(
            name="F/score lost to penalties",
            value=float(lost.mean()),
            threshold=0.03,
            relation="<=",
            note=f"{REAL}, {by_seed(lost)}",
        ),
        positive(
            "F/UR saved by enhancement, no penalties", of("plain, none", "ur") - off, "digest E: .07 in the table"
        ),
        positive(
            "F/Pass@U-1 gained by both over neither",
            of("taught, penalties", "pass_at_u_1") - of("plain, none", "pass_at_u_1"),
            "abstract",
        ),
        positive(
            "F/UR saved by both over UserRL", of("plain, UserRL equalized", "ur") - on, "abstract; paper .38 - .21"
        ),
        Claim(
            name="F/score lost by both to UserRL",
            value=float(base_lost.mean()),
            threshold=0.03,
            relation="<=",
            note=f"{REAL}, {by_seed(base_lost)}; the paper gains .17",
        ),
    ]


def _scatter(arms: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Claim]:
    """Every arm, and whether it lies on the frontier of score against involvement."""

    def mean(arm: str, name: str) -> float:
        return float(np.mean([numbers[name] for numbers in arms[arm]]))

    frontier = pareto({arm: (mean(arm, "score"), mean(arm, "ur")) for arm in arms})
    return [
        Claim(
            name=f"F/scatter, {arm}: score",
            value=mean(arm, "score"),
            note=f"{REAL}, {len(arms[arm])} seeds: UR {mean(arm, 'ur'):.3f}, Pass@U-1 {mean(arm, 'pass_at_u_1'):.3f}, "
            f"U {mean(arm, 'effort'):.2f}, T' {mean(arm, 'turns'):.2f}, consecutive {mean(arm, 'consecutive'):.3f}; "
            f"{'on' if frontier[arm] else 'behind'} the frontier",
        )
        for arm in arms
    ]


def _mismatches(done: FinishedRun, arm: str) -> Claim:
    """Recorded turns whose flags or reward differ from those of the gym that is played again with their texts."""
    settings = compose(["recipe=bao", "scale=tiny"]).config.data
    template = ChatTemplate(load_tokenizer(done.model("sft"), False))
    by_id = {prompt.id: prompt for prompt in load_prompts(settings, template, 1).train}
    recorded = done.rollouts(arm)
    wrong = sum(asyncio.run(_replayed(by_id[row["prompt"].rpartition("#")[0]], row)) for row in recorded)
    turns = sum(len(row["turns"]) for row in recorded)
    return Claim(
        name="F/turns whose flags differ from the gym's",
        value=float(wrong),
        threshold=0,
        relation="==",
        note=f"{REAL}, of {turns} turns in {len(recorded)} episodes",
    )


async def _replayed(prompt: Prompt, row: Mapping[str, Any]) -> int:
    """How many turns of an episode come out otherwise."""
    gym = SmallFunctions(SmallFunctions.Config())
    gym.reset(prompt, 0)
    wrong = 0
    for turn in row["turns"]:
        seen = await gym.step(turn.get("text", row["text"]))
        same = all(seen.flags[name] == turn["flags"][name] for name in FLAGS)
        wrong += not (same and seen.reward == turn["reward"])
    return wrong


def served_user(folder: Path) -> list[Claim]:
    """A tiny served model plays the user of TelepathyGym under the grammar of its answers: the way, not the wits."""
    start = folder / "F-taught-1" / "stages" / "sft" / "model"
    if not start.exists():
        run(folder, SEEDS[0], True, TAUGHT_FIRST)
    user = build_tiny_model(TinyModel(hidden_size=64, layers=2, heads=2, kv_heads=2, context=2048, init_std=0.05))
    overrides = [
        "environment=telepathy_gym",
        f"environment.fn.path={ENTITIES}",
        "+environment.fn.form=marks",
        "+environment.fn.show_reward=false",
        "environment.fn.judge.max_tokens=400",  # as many as its thought has letters: some answers are cut
        "environment.fn.judge.temperature=1",  # at less a model that was never trained repeats one letter for ever
        "environment.fn.judge.top_p=1",
        f"judges.user.path={user}",
        "judges.user.max_context=2048",
        "data.size=24",
        "data.holdout=0",
        "data.max_prompt_tokens=120",
        f"model.path={start}",
        "~stages.teach",
        "~stages.sft",
        "~stages.before",
        "stages.rl.steps=2",
        "stages.rl.prompts_per_step=8",
        "stages.rl.group_size=4",
        "stages.after.prompts=8",
        "rewards.task.max_missing=1",
        "telemetry.rollouts_per_step=0",
    ]
    done = run_recipe("bao", folder / "G", overrides)
    recorded = [*done.rollouts("rl"), *done.rollouts("after")]
    last = [row["turns"][-1]["flags"] for row in recorded if row["turns"]]
    asked, hits, calls, tokens = (
        sum(flags[f"judge/{name}"] for flags in last) for name in ("asked", "hits", "calls", "tokens")
    )
    lost = [row for row in recorded if row["turns"] and row["turns"][-1]["flags"]["lost"]]
    scored = [row for row in lost if "score" in row["rewards"]["task"] or row["score"] is not None]
    seconds = sum(flags["judge/seconds"] for flags in last)
    note = f"{REAL}, {len(recorded)} episodes, {calls:.0f} completions of {tokens:.0f} tokens, {seconds:.0f} s waited"
    figures = (
        ("questions to the served user", float(asked), ">", note),
        ("share answered from the cache", float(hits / max(asked, 1)), ">", REAL),
        ("episodes lost", float(len(lost)), ">", f"{REAL}, answers are cut at 400 tokens"),
        ("lost episodes with a score", float(len(scored)), "==", REAL),
    )
    return [
        Claim(name=f"G/{name}", value=value, threshold=0, relation=relation, note=said)
        for name, value, relation, said in figures
    ]
