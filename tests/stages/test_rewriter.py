"""The fallback invariant: a built set is as long as its input, and what fails is the expert's text, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from stage_run import finished, lines

from raylign.actors.reward.boxed import BoxedMath
from raylign.contracts import RolloutTask
from raylign.errors import RewardError
from raylign.recipes.rewriter import Gate
from raylign.recipes.rewriter.bare import bare_of
from raylign.records import Missing, Prompt, Reward, StopReason, Trajectory
from raylign.testing import FakeRollouts, call, trajectory

BUILD = (
    "+stages.build={_target_: raylign.recipes.stages.generate.Generate, greedy: true, batch_prompts: 50, "
    "view: {_target_: raylign.recipes.rewriter.Rewriting}, otherwise: target, "
    "keep: {_target_: raylign.recipes.stages.keep.Passing, at_least: 1}}"
)
WIDE = ["data.max_prompt_tokens=20000", "model.max_context=65536", "model.tiny.context=65536", "data.holdout=0"]
COLUMNS = ["data.format=columns", "data.prompt_key=problem", "data.answer_key=solution", "data.verifier=boxed_math"]


def said(task: RolloutTask, index: int) -> str:
    """Right for two problems of three, by the answer of the rewriting prompt."""
    number = int(task.prompt.id[:4], 16)
    return f"In short: \\boxed{{{task.prompt.answer}}}" if number % 3 else "In short: \\boxed{no}"


def gated(prompt: Prompt, sample: Trajectory) -> Reward | float:
    (value,) = GATE.score(prompt, [sample])
    return value.score


class InProcess(BoxedMath):
    """The platform's verifier, here and not in a child: nothing that it meets in this file takes long."""

    isolated = False


GATE = Gate(Gate.Config(answers={"_target_": f"{__name__}.InProcess"}))


async def test_a_built_set_is_as_long_as_its_input(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    path = shared_data("composition/VCMD_seeds_200.jsonl")
    expert = {row["problem"]: row["solution"] for row in map(json.loads, path.read_text().splitlines())}
    fakes = {"rewards": {"correct": gated}, "rollouts": FakeRollouts(said)}
    settings = [f"data.path={path}", *COLUMNS, *WIDE, BUILD]
    _, results = await finished(tmp_path / "run", *settings, **fakes)  # type: ignore[arg-type]
    rows = lines(results["build"].artifacts["rows"])
    assert len(rows) == len(expert) == 200 and {row["messages"][0]["content"] for row in rows} == set(expert)
    fallen = [row for row in rows if row["meta"]["generated"]["from"] == "prompt"]
    assert 30 < len(fallen) < 110
    assert results["build"].metrics["generate/fallback"] == pytest.approx(len(fallen) / 200)
    for row in rows:
        question, target = row["messages"][0]["content"], row["target"]
        if row in fallen:
            assert target.encode() == expert[question].encode()
        else:
            assert target.startswith("In short: ")
            assert GATE.score(bare_of(asked(row)), [trajectory(target)])[0].score == 1.0
        assert "bare" not in row["meta"] and len(row["messages"]) == 1  # the rows ask the bare question


def asked(row: dict[str, object]) -> Prompt:
    from raylign.testing import prompt

    return prompt(text=row["messages"][0]["content"], answer=row["answer"], meta={"verifier": "boxed_math"})  # type: ignore[index]


async def test_a_sample_that_breaks_off_falls_back(tmp_path: Path, data: str) -> None:
    cut = FakeRollouts(lambda task, index: trajectory(call(str(task.prompt.answer), stop=StopReason.LENGTH)))
    settings = [data, "data.holdout=0", "model.max_context=4096", "model.tiny.context=4096", BUILD]
    _, results = await finished(tmp_path / "run", *settings, rewards={"correct": lambda *_: 1.0}, rollouts=cut)
    rows = lines(results["build"].artifacts["rows"])
    assert len(rows) == 12 and all(row["target"] == f"{row['answer']}!" for row in rows)
    assert results["build"].metrics["generate/cut"] == 1.0


async def test_a_gate_that_is_gone_ends_the_stage_and_builds_no_set_of_fallbacks(tmp_path: Path, data: str) -> None:
    gone = {"correct": lambda *_: Missing(reason="the base model is gone")}
    settings = [data, "data.holdout=0", "model.max_context=4096", "model.tiny.context=4096", BUILD]
    with pytest.raises(RewardError, match="the base model is gone"):
        await finished(tmp_path / "run", *settings, rewards=gone)
    assert not list((tmp_path / "run").rglob("rows.jsonl"))
