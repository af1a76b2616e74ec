"""One engine serves evaluations that each bring their own strategy, environment, rewards, view and measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from short_runs import lines, steps, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
EVALUATE = "_target_: raylign.recipes.stages.evaluate.Evaluate, split: train, greedy: false, samples: 2"
MULTI = "_target_: raylign.actors.rollout.multi_turn.MultiTurn"
SINGLE = "_target_: raylign.actors.rollout.strategies.SingleTurn"
SOKOBAN = "_target_: raylign.actors.environments.games.sokoban.Sokoban, levels: open, format: letters"
LETTERS = "_target_: raylign.actors.reward.python.PythonFunction, path: letters.share_of_letters"
MEASURE = "measures: {count: {_target_: worlds.Turns}}"
OVERRIDES = [
    "recipe=tsr",
    "scale=tiny",
    "~stages.warmup",
    "~stages.rl",
    "~stages.after",
    "data.size=4",
    "run.allow_targets=[letters.,worlds.]",
    f"rewards.letters.fn={{{LETTERS}}}",
    "telemetry.progress=none",
    f"+stages.episodes={{{EVALUATE}, weights: {{earned: 1.0}}, {MEASURE}}}",
    f"+stages.single={{{EVALUATE}, strategy: {{{SINGLE}}}, weights: {{letters: 2.0}}, {MEASURE},"
    " view: {_target_: worlds.Prefixed, text: Be brief., most: 3}}",
    f"+stages.short={{{EVALUATE}, strategy: {{{MULTI}, max_turns: 2}}, weights: {{earned: 1.0, letters: 0.0}},"
    f" environment: {{{SOKOBAN}, turns: 2}}, {MEASURE}}}",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "run"
    train(folder, OVERRIDES, keep={folder.with_name("killed"): ("short", "evaluate", 0)})
    return folder


def rows(folder: Path, stage: str) -> list[dict[str, Any]]:
    found = [row for path in sorted((folder / "rollouts").glob("*.jsonl")) for row in lines(path)]
    return [row for row in found if row["stage"] == stage]


def test_each_evaluation_samples_and_scores_in_its_own_way(run: Path) -> None:
    (episodes,), (single,), (short,) = (steps(run, name) for name in ("episodes", "single", "short"))
    assert episodes["eval/count/calls"] > short["eval/count/calls"] > 1.0 == single["eval/count/calls"]
    assert (episodes["eval/prompts"], single["eval/prompts"], short["eval/prompts"]) == (4, 3, 4)
    assert "eval/reward/letters" not in episodes and "eval/reward/earned" not in single, "not asked is not scored"
    assert single["eval/score"] == pytest.approx(2 * single["eval/reward/letters"])
    assert short["eval/score"] == pytest.approx(short["eval/reward/earned"]) and "eval/reward/letters" in short
    assert all("Be brief." in str(row["messages"]) for row in rows(run, "single"))
    assert not any("Be brief." in str(row["messages"]) for row in rows(run, "episodes"))
    table = lines(run / "stages" / "single" / "measures" / "count.jsonl")
    assert len(table) == 3 and {row["samples"] for row in table} == {2}


def test_one_engine_served_them_all(run: Path) -> None:
    assert [path.name for path in sorted((run / "logs").glob("rollout-*"))] == ["rollout-0.log"]
    assert (run / "logs" / "rollout-0.log").read_text().count("Enforce eager set") == 1
    assert {step["restarts/rollout"] for name in ("episodes", "single", "short") for step in steps(run, name)} == {0.0}


def test_killed_and_resumed_it_is_the_same(run: Path) -> None:
    again = run.with_name("killed")
    assert not steps(again, "short")
    train(again, OVERRIDES)
    first, second = (
        {name: value for name, value in step.items() if name.startswith("eval/")}
        for step in (*steps(run, "short"), *steps(again, "short"))
    )
    assert first == second
