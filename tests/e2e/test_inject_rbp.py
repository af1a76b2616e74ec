"""InjectRBP through the command line: a history by a frozen model, its table, and arms on other questions."""

from __future__ import annotations

from pathlib import Path

import pytest
from short_runs import lines, steps, train

from raylign.data.score_cache import fingerprint
from raylign.plan import make_plan
from raylign.recipes.inject_rbp.table import PatternTable
from raylign.testing import tiny_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
LEFT_OUT = ("naive", "incorrect", "random", "cross", "correct")
SMALL = [
    "recipe=inject_rbp",
    "scale=tiny",
    "seed=3",
    "model.tiny.hidden_size=32",
    "model.tiny.layers=2",
    "data.size=60",
    "data.holdout=12",
    "stages.pretrain.steps=60",
    "stages.pretrain.batch_size=32",
    "stages.pretrain.optim.lr=1e-2",
    "stages.history.samples=2",
    "stages.none.samples=2",
    "stages.rlopt.samples=2",
    "stages.fit.estimator.permutations=99",
    "stages.fit.estimator.right=0",  # so weak a model is never right: all of its traces are imitated
    *(f"~stages.{name}" for name in LEFT_OUT),
    "+stages.inline={_target_: raylign.recipes.stages.evaluate.Evaluate, view: '${stages.none.view}', measures: "
    "'${stages.rlopt.measures}', strategy: {_target_: raylign.recipes.inject_rbp.Inline, separator: \"\\n\"}}",
    "telemetry.progress=none",
    "telemetry.rollouts_per_step=0",
]


def test_no_arm_learns_and_no_weight_changes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, SMALL)
    model = folder / "stages" / "pretrain" / "model"
    frozen = tiny_run(*SMALL, "~stages.pretrain", f"model.path={model}")
    assert {role.name for role in make_plan(frozen).roles} == {"rollout", "reward/correct"}, "no learner"
    assert (folder / "stages/sealed/fingerprint.txt").read_text().strip() == fingerprint(str(model))
    assert steps(folder, "unchanged")[0]["seal/unchanged"] == 1
    events = [event for event in lines(folder / "events.jsonl") if event["kind"] == "stage_started"]
    started = {event["stage"]: event["model"] for event in events}
    assert {started[name] for name in ("history", "none", "rlopt", "inline")} == {str(model)}
    table = PatternTable.of(folder / "stages/fit/fitted")
    assert len(table.traces) == 96 and steps(folder, "fit")[0]["fit/traces"] == 96
    arms = {name: lines(folder / f"stages/{name}/measures/behaviour.jsonl") for name in ("none", "rlopt", "inline")}
    asked_of = {name: {row["prompt"] for row in rows} for name, rows in arms.items()}
    assert len(asked_of["none"]) == 12 and asked_of["none"] == asked_of["rlopt"] == asked_of["inline"]
    asked = {trace.asked for trace in table.traces}
    assert len(asked) == 48
    prompts = [row for path in (folder / "rollouts").glob("*.jsonl") for row in lines(path)]
    shown = {row["prompt"]: row["messages"][-1]["content"] for row in prompts if row["stage"] == "rlopt"}
    for row in arms["rlopt"]:
        plan = "".join(f"{n}{symbol}" for n, symbol in enumerate(row["injectant"]["chain"], 1))
        assert any(text.startswith(f"{plan}|") for text in shown.values())
    (none,), (rlopt,), (inline,) = (steps(folder, name) for name in ("none", "rlopt", "inline"))
    assert {"eval/behaviour/l1", "eval/behaviour/followed", "eval/behaviour/tokens"} <= none.keys() & rlopt.keys()
    assert rlopt["eval/behaviour/gain"] == pytest.approx(rlopt["eval/score"] - none["eval/score"])
    assert inline["eval/inline/markers"] > 0 and inline["eval/prompts"] == 12
