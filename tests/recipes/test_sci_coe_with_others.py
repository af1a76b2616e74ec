"""Sci-CoE's parts beside other parts: embedders of three kinds, and rewards under the source of another recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sci_coe_groups import SOLUTIONS, asked, geometric, said, scores

from raylign.config.compose import compose, compose_with_problems
from raylign.data.pass_rate import passes
from raylign.models.tokenizer import load_tokenizer
from raylign.plan import make_plan
from raylign.recipes.sci_coe import Solved
from raylign.recipes.sci_coe.roles import in_role
from raylign.records import Absent, Group, Prompt
from raylign.testing import records

GEOMETRIC = "rewards.geometric.fn"
EMBED = "raylign.actors.embed"
SERVED = "{_target_: raylign.actors.judge.served.Served, name: judge}"
FUNCTION = "raylign.actors.judge.scripted.echo"
ECHO = f"{{_target_: raylign.actors.judge.scripted.Scripted, function: {FUNCTION}}}"
UNDER_COMPOSITION = [
    "recipe=composition_rl",
    "scale=tiny",
    "rollout.strategy={_target_: raylign.recipes.sci_coe.SolveAndVerify, "
    "solver: '{question}', verifier: '{question}!'}",
    "+rewards.geometric={timeout_s: 60, fn: {_target_: raylign.recipes.sci_coe.Geometric, "
    f"judge: {{model: {ECHO}}}}}}}",
    "rewards.correct.fn={_target_: raylign.recipes.sci_coe.Solved, "
    "answers: {_target_: raylign.recipes.composition_rl.MarkedAnswer}}",
    "rows={_target_: raylign.loop.context_rows.PerContext}",
    "+advantage.by_role=true",
    "source.reward=correct",
    "stages.rl.group_size=16",
    "stages.rl.weights={geometric: 1, correct: 0}",
    "stages.before.weights={correct: 1}",
    "stages.after.weights={correct: 1}",
]


def test_strategies_may_be_embedded_by_a_models_states(tiny_model: Path, tmp_path: Path) -> None:
    embedder = {"_target_": f"{EMBED}.ModelEmbedder", "path": str(tiny_model), "cache_dir": str(tmp_path)}
    strategies = ["check the unit", "check the units", "recompute it by another route", "accept it"]
    first, again = (scores(geometric(embedder=embedder).score(asked(), said(SOLUTIONS, strategies))) for _ in range(2))
    assert first == again and all(score is not None for score in first)
    hashed = scores(geometric().score(asked(), said(SOLUTIONS, strategies)))
    assert hashed[:5] == first[:5] and hashed[5:] != first[5:]  # solutions are paid by consensus alone


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ([f"{GEOMETRIC}.embedder={{_target_: {EMBED}.HashedNgrams}}"], ""),
        ([f"{GEOMETRIC}.embedder={{_target_: {EMBED}.ModelEmbedder, path: MODEL}}"], ""),
        (
            [
                "+judges.judge={path: MODEL, verbs: [complete, embed]}",
                f"{GEOMETRIC}.embedder={{_target_: {EMBED}.ServedEmbedder, model: {SERVED}}}",
            ],
            "",
        ),
        (
            [
                "+judges.judge={path: MODEL, verbs: [complete]}",
                f"{GEOMETRIC}.embedder={{_target_: {EMBED}.ServedEmbedder, model: {SERVED}}}",
            ],
            "judges.judge.verbs",
        ),
    ],
)
def test_embedders_are_chosen_by_overrides(tiny_model: Path, settings: list[str], wrong: str) -> None:
    chosen = [setting.replace("MODEL", str(tiny_model)) for setting in settings]
    _, problems = compose_with_problems(["recipe=sci_coe", "scale=tiny", *chosen])
    assert [problem.key for problem in problems] == ([wrong] if wrong else [])


# ---------------------------------------------------------------------------------- under composition_rl's source


def test_its_rewards_train_on_composed_prompts_by_overrides_alone() -> None:
    run = compose(UNDER_COMPOSITION)
    plan = make_plan(run)
    assert {"rollout", "learner"} <= {role.name.partition("/")[0] for role in plan.roles}
    assert run.weights("rl") == {"geometric": 1, "correct": 0} and run.weights("after") == {"correct": 1}


@pytest.fixture(scope="module")
def composed(tiny_model: Path) -> tuple[Any, Prompt, Any]:
    other: Any = pytest.importorskip("raylign.recipes.composition_rl")  # which may be taken out of the tree
    tokenizer = load_tokenizer(str(tiny_model), False)
    seeds = [
        records.prompt(number, text=row.messages[0]["content"], answer=row.answer, meta={"target": row.target})
        for number, row in enumerate(other.Digits(other.Digits.Config()).rows(30, 0))
    ]
    composer = {"_target_": "raylign.recipes.composition_rl.SymbolicComposer", "style": "formula", "modulus": 10}
    config = other.CompositionSource.Config(composer=composer, reward="correct")
    source = other.CompositionSource(config, prompts=seeds, seed=1, tokenizer=tokenizer)
    return source, source.next(1)[0], tokenizer


def test_both_roles_are_asked_the_composed_question(composed: tuple[Any, Prompt, Any]) -> None:
    _, prompt, _ = composed
    text = prompt.messages[-1]["content"]
    assert prompt.meta["composition"]["depth"] == 2 and ";" in text
    assert in_role(prompt, "check {question}!")[-1]["content"] == f"check {text}!"
    values = geometric({"model": {"_target_": "raylign.actors.judge.scripted.Scripted", "function": FUNCTION}}).score(
        prompt, said(["#1", "#2"], ["look CORRECT", "look again INCORRECT"])
    )
    assert scores(values)[:2] == [0.5 / 0.8, 0.5 / 0.8]  # the echo of a strategy is its verdict


def test_the_source_counts_solutions_alone(composed: tuple[Any, Prompt, Any]) -> None:
    source, prompt, _ = composed
    answers = {"_target_": "raylign.recipes.composition_rl.MarkedAnswer"}
    trajectories = said([f"#{prompt.answer}", f"#{prompt.answer}"], ["strategy", "another"])
    labels = Solved(Solved.Config(answers=answers)).score(prompt, trajectories)
    rewarded = tuple(
        records.trajectory(*t.calls, rewards={"correct": Absent() if label is None else label})
        for t, label in zip(trajectories, labels, strict=True)
    )
    group = Group(prompt=prompt, trajectories=rewarded)
    assert passes(group, "correct") == [1.0, 1.0]
    source.observe([group])
    assert source.metrics()["solve_all"] == 1.0 and np.isfinite(list(source.metrics().values())).all()
