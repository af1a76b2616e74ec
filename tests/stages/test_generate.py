"""Sets made of samples: what is written, that every reader takes it, and that a killed stage writes the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from stage_run import finished, lines, stopped

from raylign.actors.judge.scripted import Scripted
from raylign.config.schema import DataConfig
from raylign.contracts import Refused, RolloutTask, View
from raylign.data.pairs import Truncation, load_pairs
from raylign.data.prompts import load_prompts
from raylign.errors import CheckpointError, DataError, RewardError
from raylign.recipes.stages import group_sampler
from raylign.recipes.stages.demonstrations import demonstrations
from raylign.records import Absent, Missing, Prompt, StopReason, Trajectory
from raylign.testing import FakeRollouts, call, trajectory

GENERATE = "raylign.recipes.stages.generate.Generate"
KEEP = "raylign.recipes.stages.keep"


def made(**settings: Any) -> str:
    fields = ", ".join(f"{name}: {value}" for name, value in {"samples": 3, "batch_prompts": 4, **settings}.items())
    return f"+stages.made={{_target_: {GENERATE}, {fields}}}"


def says(task: RolloutTask, index: int) -> str:
    """Right by the second sample of even questions, by the third of those that three divides."""
    number = int(task.prompt.messages[-1]["content"].split()[-1])
    right = (index == 1 and number % 2 == 0) or (index == 2 and number % 3 == 0)
    return str(task.prompt.answer) if right else f"no {index}"


def right(prompt: Prompt, said: Trajectory) -> float:
    return float(said.text == prompt.answer)


class Hint(View):
    """Says the answer before the question."""

    @dataclass
    class Config:
        """Nothing to set."""

    def __init__(self, config: Any, tokenizer: Any, seed: int) -> None:
        super().__init__(config)

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        return [replace(asked, messages=({"role": "user", "content": f"hint: {asked.answer}"},)) for asked in prompts]


async def rows_of(folder: Path, data: str, **settings: Any) -> list[dict[str, Any]]:
    fakes: Any = {"rewards": {"correct": right}, "rollouts": FakeRollouts(says)}
    _, results = await finished(folder, data, made(**settings), **fakes)
    assert results["made"].metrics["generate/prompts"] == 10
    return lines(results["made"].artifacts["rows"])


async def test_what_passes_is_written_with_its_score_seed_and_origin(tmp_path: Path, data: str) -> None:
    rows = await rows_of(tmp_path / "run", data, keep=f"{{_target_: {KEEP}.Passing, count: 1}}")
    assert rows and all(row["target"] == row["answer"] for row in rows)
    numbers = [row["meta"]["level"] for row in rows]
    assert all(number % 2 == 0 or number % 3 == 0 for number in numbers) and len(set(numbers)) == len(rows)
    for row in rows:
        made = row["meta"]["generated"]
        assert made["sample"] == (1 if row["meta"]["level"] % 2 == 0 else 2)
        assert (made["stage"], made["from"], made["model"]) == ("made", "sample", "the-start")
        assert made["score"] == made["rewards"]["correct"] == 1.0 and made["seed"] > 2**32
        assert row["meta"]["domain"] in "ab" and row["verifier"] and row["complete"]


@pytest.mark.parametrize(("viewed", "target"), [(True, "so"), (False, "<think>it says so</think>so")])
async def test_what_a_teacher_thinks_of_what_only_it_was_shown_is_no_target(
    tmp_path: Path, data: str, viewed: bool, target: str
) -> None:
    def thinks(task: RolloutTask, index: int) -> str:
        return "<think>it says so" if index else "<think>it says so</think>so"

    settings = {"view": f"{{_target_: {__name__}.Hint}}"} if viewed else {}
    fakes: Any = {"rewards": {"correct": right}, "rollouts": FakeRollouts(thinks)}
    allowed = f"run.allow_targets=[{__name__.partition('.')[0]}.]"
    _, results = await finished(tmp_path / "run", data, made(samples=2, **settings), allowed, **fakes)
    rows = lines(results["made"].artifacts["rows"])
    assert len(rows) == 10, "a thought without an answer is cut off"
    assert {row["target"] for row in rows} == {target}
    assert results["made"].metrics["generate/cut"] > 0


async def test_without_a_rule_every_sample_is_kept_right_or_wrong(tmp_path: Path, data: str) -> None:
    rows = await rows_of(tmp_path / "run", data)
    assert len(rows) == 30 and {row["meta"]["generated"]["score"] for row in rows} == {0.0, 1.0}
    assert [row["meta"]["generated"]["sample"] for row in rows[:3]] == [0, 1, 2]


async def test_where_nothing_passes_the_gold_target_is_written_or_the_prompt_is_dropped(
    tmp_path: Path, data: str
) -> None:
    keep = f"{{_target_: {KEEP}.Passing, count: 1}}"
    rows = await rows_of(tmp_path / "gold", data, keep=keep, otherwise="target")
    assert len(rows) == 10
    fallback = [row for row in rows if row["meta"]["generated"]["from"] == "prompt"]
    assert 0 < len(fallback) < 10 and all(row["target"] == f"{row['answer']}!" for row in fallback)
    assert all("score" not in row["meta"]["generated"] for row in fallback), "absent is not zero"
    dropped = await rows_of(tmp_path / "drop", data, keep=keep)
    assert len(dropped) == 10 - len(fallback)
    shares = (lines(tmp_path / "gold/metrics.jsonl"), lines(tmp_path / "drop/metrics.jsonl"))
    assert sum(step["generate/fallback"] * step["generate/prompts"] for step in shares[0]) == len(fallback)
    assert sum(step["generate/dropped"] * step["generate/prompts"] for step in shares[1]) == len(fallback)


async def test_every_reader_takes_the_rows(tmp_path: Path, data: str) -> None:
    context, results = await finished(
        tmp_path / "run",
        data,
        "data.template='Q {prompt}'",
        "data.system=Be brief.",
        made(keep=f"{{_target_: {KEEP}.BestAndWorst}}"),
        rewards={"correct": right},
        rollouts=FakeRollouts(says),
    )
    path = results["made"].artifacts["rows"]
    original = {prompt.meta["level"]: prompt for prompt in context.prompts.train}
    # in another run, whose own words would go around the rows of any other file
    config = DataConfig(path=path, holdout=0, template="not {prompt}", system="Not this.", prompt_key="nowhere")
    prompts = load_prompts(config, context.template, 1).train
    assert len(prompts) == results["made"].metrics["generate/rows"] > 3
    for prompt in prompts:
        before = original[prompt.meta["level"]]
        assert prompt.messages == before.messages and prompt.answer == before.answer
        assert prompt.token_ids.tolist() == before.token_ids.tolist()
        assert prompt.meta["target"] == prompt.answer and prompt.meta["verifier"] == before.meta["verifier"]
    learned = demonstrations(prompts, context.template)
    decode = context.template.tokenizer.decode
    for row, prompt in zip(learned, prompts, strict=True):
        assert decode(row.token_ids[row.loss_mask]).startswith(prompt.answer)
    pairs = load_pairs(config, context.template, 128, Truncation.drop, 1).train
    assert len(pairs) == len(prompts)
    assert all(decode(pair.chosen).startswith(prompt.answer) for pair, prompt in zip(pairs, prompts, strict=True))
    assert all(decode(pair.rejected).startswith("no ") for pair in pairs)


async def test_a_view_shows_what_the_rows_do_not_ask(tmp_path: Path, data: str) -> None:
    rollouts = FakeRollouts(lambda task, index: task.prompt.messages[-1]["content"])
    _, results = await finished(
        tmp_path / "run",
        data,
        made(samples=1, weights="{}", view=f"{{_target_: {__name__}.Hint}}"),
        f"run.allow_targets=[{__name__.partition('.')[0]}.]",
        rewards={},
        rollouts=rollouts,
    )
    for row in lines(results["made"].artifacts["rows"]):
        assert row["target"].startswith("hint: ") and not row["messages"][-1]["content"].startswith("hint")
        assert row["meta"]["generated"]["score"] is None, "without a reward there is no score"


async def test_a_column_may_be_asked_in_place_of_the_prompt(tmp_path: Path, data: str) -> None:
    words = (data, "data.template='Rewrite {completion} of {prompt}'")
    _, results = await finished(
        tmp_path / "run", *words, made(ask="question"), rewards={"correct": right}, rollouts=FakeRollouts(says)
    )
    rows = lines(results["made"].artifacts["rows"])
    assert {row["messages"][-1]["content"] for row in rows} <= {f"say {n}" for n in range(12)}
    with pytest.raises(
        DataError, match=r"rows.jsonl:\d+: stages.made.ask=solution is no text of this row; it has .*level"
    ):
        await finished(
            tmp_path / "other", *words, made(ask="solution", weights="{}"), rewards={}, rollouts=FakeRollouts(says)
        )


async def test_a_stage_that_is_stopped_and_resumed_writes_the_same_bytes(tmp_path: Path, data: str) -> None:
    fakes: Any = {"rewards": {"correct": right}, "rollouts": FakeRollouts(says)}
    _, whole = await finished(tmp_path / "whole", data, made(), **fakes)
    again = tmp_path / "again"
    await stopped(again, data, made(), stop_after=1, **fakes)
    path = again / "stages/made/rows.jsonl"
    known = path.read_bytes()
    path.write_bytes(known + b'{"raylign": 1, "messages' * 9999)  # of a batch that a kill cut off
    context, results = await finished(again, data, made(), **fakes)
    assert context.steps == 2, "the first batch is not asked again"
    assert path.read_bytes() == Path(whole["made"].artifacts["rows"]).read_bytes()
    assert results["made"].metrics == whole["made"].metrics
    assert [line["step"] for line in lines(again / "metrics.jsonl")] == [1, 2, 3]


async def test_rows_that_are_not_as_the_checkpoint_left_them_are_refused(tmp_path: Path, data: str) -> None:
    fakes: Any = {"rewards": {"correct": right}, "rollouts": FakeRollouts(says)}
    await stopped(tmp_path / "run", data, made(), stop_after=1, **fakes)
    path = tmp_path / "run/stages/made/rows.jsonl"
    path.write_bytes(path.read_bytes().replace(b"no 0", b"no 9", 1))
    with pytest.raises(CheckpointError, match=r"rows.jsonl is not as its checkpoint left it \(12 rows"):
        await finished(tmp_path / "run", data, made(), **fakes)


async def test_a_set_of_nothing_and_a_set_with_too_much_missing_are_refused(tmp_path: Path, data: str) -> None:
    with pytest.raises(DataError, match=r"keeps nothing of 10 prompts \(30 samples, 0 of them cut.*otherwise=target"):
        await finished(
            tmp_path / "none", data, made(keep=f"{{_target_: {KEEP}.Passing}}"), rewards={"correct": lambda p, t: 0.0}
        )

    def lost(prompt: Prompt, said: Trajectory) -> Missing:
        return Missing(reason="the judge is gone")

    with pytest.raises(RewardError, match=r"reward correct is missing for 12 of 12 .*the judge is gone"):
        await finished(tmp_path / "lost", data, made(), rewards={"correct": lost})
    failing = FakeRollouts(lambda task, index: Refused(sample_index=index, reason="no room"))
    with pytest.raises(RewardError, match=r"the sample failed for 12 of 12 .*no room"):
        await finished(tmp_path / "fail", data, made(), rewards={}, rollouts=failing)


async def test_samples_without_a_verdict_or_an_end_are_not_kept(tmp_path: Path, data: str) -> None:
    def odd(task: RolloutTask, index: int) -> Any:
        if index == 0:
            return Refused(sample_index=0, reason="no room")
        return trajectory(call("cut", stop=StopReason.LENGTH)) if index == 1 else "whole"

    fakes: Any = {"rewards": {"correct": lambda prompt, said: 1.0}, "rollouts": FakeRollouts(odd)}
    _, results = await finished(tmp_path / "run", data, made(), **fakes)
    rows = lines(results["made"].artifacts["rows"])
    assert [row["target"] for row in rows] == ["whole"] * 10
    assert results["made"].metrics["generate/cut"] == pytest.approx(1 / 3)
    _, results = await finished(tmp_path / "both", data, made(truncated="true"), **fakes)
    rows = lines(results["made"].artifacts["rows"])
    assert [row["target"] for row in rows] == ["cut", "whole"] * 10
    assert [row["meta"]["generated"]["truncated"] for row in rows[:2]] == [True, False]


async def test_a_reward_that_does_not_apply_is_no_number_of_the_row(tmp_path: Path, data: str) -> None:
    _, results = await finished(
        tmp_path / "run", data, made(samples=1), rewards={"correct": right, "code": lambda p, t: Absent()}
    )
    assert all(
        set(row["meta"]["generated"]["rewards"]) == {"correct"} for row in lines(results["made"].artifacts["rows"])
    )


async def test_samples_of_several_calls_are_no_target(tmp_path: Path, data: str) -> None:
    talk = FakeRollouts(lambda task, index: trajectory("a", "b"))
    with pytest.raises(DataError, match=r"a sample of 2 calls is no single target; fix: .*Collect"):
        await finished(tmp_path / "run", data, made(weights="{}"), rewards={}, rollouts=talk)


async def test_a_judge_answers_in_place_of_the_engines(tmp_path: Path, data: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(group_sampler, "served", lambda name: Scripted.of(_teacher))
    _, results = await finished(
        tmp_path / "run", data, "judges.teacher={gpus: 0}", made(by="teacher", samples=2), rewards={"correct": right}
    )
    rows = lines(results["made"].artifacts["rows"])
    assert len(rows) == 20 and {row["meta"]["generated"]["model"] for row in rows} == {"judges.teacher"}
    assert all(row["target"].startswith("the teacher says say ") for row in rows)
    assert len({row["meta"]["generated"]["seed"] for row in rows}) == 20
    assert not any(name.startswith("length/") for line in lines(tmp_path / "run/metrics.jsonl") for name in line)


def _teacher(messages: Any, sampling: Any, seed: int) -> str:
    return f"the teacher says {messages[-1]['content']}"
