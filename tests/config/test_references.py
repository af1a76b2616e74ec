"""Settings that name what a stage leaves: refused when composing where nothing can be there, bound once it is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from raylign.config.compose import compose
from raylign.config.references import bound, references, users
from raylign.contracts import MODEL, Reference, RewardFunction, artifact
from raylign.errors import ConfigError
from raylign.records import Prompt, Reward, Trajectory, Value

SMALL = ["recipe=grpo", "scale=tiny", f"run.allow_targets=[{__name__.partition('.')[0]}.,test_references.]"]
HERE = f"{__name__}.Stored"


class Stored(RewardFunction):
    """A reward that reads a file."""

    @dataclass
    class Config:
        """Where it is, and a list of such files."""

        store: str = artifact("rows")
        more: list[str] = field(default_factory=list)

    def score(self, prompt: Prompt, trajectory: Trajectory) -> Reward:
        return Value(score=0.0)


def problems_of(*overrides: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        compose([*SMALL, *overrides])
    return {problem.key: f"{problem.value} {problem.why}; {problem.fix}" for problem in refused.value.problems}


@pytest.mark.parametrize(
    ("overrides", "key", "told"),
    [
        (["stages.rl.start=@gone"], "stages.rl.start", "@gone names no stage of the run; name @warmup"),
        (["stages.warmup.start=@rl"], "stages.warmup.start", "@rl names no stage before stages.warmup"),
        (["stages.rl.start=@rl"], "stages.rl.start", "@rl names no stage before stages.rl"),
        (["stages.after.start=@before"], "stages.after.start", "@before is none of what the stage leaves: nothing"),
        (["stages.rl.data=@warmup"], "stages.rl.data", "is none of what the stage leaves: @warmup/model"),
        (["stages.rl.data=@warmup/rows"], "stages.rl.data", "is none of what the stage leaves: @warmup/model"),
        (["frozen.reference.path=@rl", "objective.kl_coef=0.1"], "frozen.reference.path", "no stage before stages.rl"),
        (["stages.rl.data=none.jsonl"], "stages.rl.data", "none.jsonl does not exist"),
        (["stages.rl.weights={corect: 1}"], "stages.rl.weights.corect", "is the weight of no reward; name one of"),
        (["stages.rl.weights={}"], "stages.rl.weights", "leaves no reward to learn from"),
        (["judges.judge={path: '@rl', gpus: 0}"], "judges.judge.path", "no stage before stages."),
    ],
)
def test_what_nothing_leaves_is_refused(overrides: list[str], key: str, told: str) -> None:
    problems = problems_of(*overrides)
    assert told in problems[key] and len(problems) == 1


def test_any_part_may_name_an_artifact_and_the_stages_that_ask_a_reward_need_it() -> None:
    reward = f"rewards.own={{fn: {{_target_: {HERE}, store: '@rl'}}}}"
    told = problems_of(reward)["rewards.own.fn.store"]
    assert told.startswith("@rl is none of what the stage leaves: @rl/model")
    reward = f"rewards.own={{fn: {{_target_: {HERE}, store: '@rl/model'}}}}"
    assert "no stage before stages.warmup" in problems_of(reward)["rewards.own.fn.store"]
    only_after = [f"stages.{name}.weights={{correct: 1}}" for name in ("warmup", "before", "rl")]
    run = compose([*SMALL, reward, *only_after])
    assert [stage.name for stage in users(run, "rewards.own.fn.store")] == ["after"]


def test_references_are_bound_where_they_stand_once_there_is_a_path() -> None:
    reward = f"rewards.own={{fn: {{_target_: {HERE}, store: '@rl/model', more: ['@rl']}}}}"
    asked = [f"stages.{name}.weights={{correct: 1}}" for name in ("warmup", "before", "rl")]
    run = compose([*SMALL, reward, *asked, "stages.rl.start=@warmup"])
    before = {reference.key: reference for reference in references(run)}
    assert set(before) == {"rewards.own.fn.store", "stages.rl.start"}, "a list of texts is no artifact field"
    assert before["stages.rl.start"] == Reference(key="stages.rl.start", value="@warmup", name=MODEL)

    def known(paths: Mapping[str, str]) -> Any:
        return lambda reference: paths.get(reference.value)

    once = bound(run, known({"@warmup": "a/model"}))
    assert once.parts["stages.rl"].config.start == once.config.stages["rl"]["start"] == "a/model"
    assert once.parts["rewards.own.fn"].config.store == "@rl/model" and once.tree == run.tree
    twice = bound(once, known({"@rl/model": "b/model"}))
    assert twice.parts["rewards.own.fn"].config.store == twice.config.rewards["own"].fn["store"] == "b/model"
    assert twice.parts["rewards.own.fn"].build().config.store == "b/model"
    assert run.parts["stages.rl"].config.start == "@warmup" and not references(twice)
    assert bound(twice, known({})) is twice


def test_which_artifact_a_reference_means() -> None:
    assert Reference(key="", value="@x", name="").among(("a", "b")) == "a"
    assert Reference(key="", value="@x", name="b").among(("a", "b")) == "b"
    assert Reference(key="", value="@x/a", name="b").among(("a", "b")) == "a"
    assert Reference(key="", value="@x/c", name="").among(("a",)) is None
    assert Reference(key="", value="@x", name="").among(()) is None


def test_a_start_of_a_setting_that_is_empty_is_no_start() -> None:
    """Empty means what the stage before has made, which nobody asked for who named the run's own model."""
    told = r"stages.student.start = \$\{model.path\}: is empty, and the stage would start from what the stage before"
    with pytest.raises(ConfigError, match=told):
        compose(["recipe=vulnerability_games", "scale=gpu"])
    with pytest.raises(ConfigError) as raised:
        compose(["recipe=vulnerability_games", "scale=gpu", "model.path=org/model"])
    assert "student.start = ${model.path}" not in str(raised.value)
