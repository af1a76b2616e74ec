"""Views that need what an earlier stage left, what they are shown and may make, and tables that later measures read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from stage_run import FakeRun, finished, lines

from raylign.config.compose import compose_with_problems
from raylign.contracts import Measure, View, artifact
from raylign.errors import DataError
from raylign.records import Group, Prompt
from raylign.testing import FakeRollouts

HERE = f"run.allow_targets=[{__name__.partition('.')[0]}.]"
GENERATE = "+stages.made={_target_: raylign.recipes.stages.generate.Generate, samples: 1}"


class Counted(View):
    """Says how many rows another stage wrote before every question."""

    shown: ClassVar[list[str]] = []

    @dataclass
    class Config:
        rows: str = artifact("rows")
        words: int = 1

    def __init__(self, config: Any, tokenizer: Any, seed: int) -> None:
        super().__init__(config)
        self._template, self._count = tokenizer, len(lines(config.rows))

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        self.shown += [prompt.id for prompt in prompts]
        return [self._said(prompt) for prompt in prompts]

    def _said(self, prompt: Prompt) -> Prompt:
        text = f"{self._count} rows " * self.config.words
        messages = ({"role": "user", "content": text + str(prompt.messages[-1]["content"])},)
        return replace(prompt, messages=messages, token_ids=np.array(self._template.prompt_ids(messages), np.int32))


class Scores(Measure):
    """The scores, and their distance to those of a table."""

    @dataclass
    class Config:
        other: str = artifact()

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        other = [row["score"] for row in lines(self.config.other)] if self.config.other else []
        return {"apart": sum(group.scores[0] or 0 for group in groups) - sum(other)} if other else {}

    def table(self, groups: Sequence[Group]) -> list[Mapping[str, Any]]:
        return [{"score": group.scores[0]} for group in groups]


def evaluate(name: str, fields: str) -> str:
    return f"+stages.{name}={{_target_: raylign.recipes.stages.evaluate.Evaluate, {fields}}}"


def view(words: int = 1) -> str:
    return f"view: {{_target_: {__name__}.Counted, rows: '@made', words: {words}}}"


def fakes() -> dict[str, Any]:
    rollouts = FakeRollouts(lambda task, index: task.prompt.messages[-1]["content"])
    return {"rewards": {"correct": lambda prompt, said: float("rows" in said.text)}, "rollouts": rollouts}


async def test_a_view_waits_for_what_it_names(tmp_path: Path, data: str) -> None:
    Counted.shown.clear()
    overrides = [data, HERE, GENERATE, evaluate("last", view())]
    context = FakeRun(tmp_path / "looked", *overrides, **fakes())
    read = context.reading.of(context.run.stages[-1])  # as a plan does, before any work
    assert not Counted.shown and [prompt.messages[-1]["content"][:3] for prompt in read.prompts.holdout] == ["say"] * 2
    await context.close()
    context, results = await finished(tmp_path / "run", *overrides, **fakes())
    assert results["last"].metrics["eval/score"] == 1, "asked as the view shows it"
    assert Counted.shown == [prompt.id for prompt in context.prompts.holdout], "training prompts are not asked here"


async def test_an_evaluation_of_training_prompts_is_shown_them(tmp_path: Path, data: str) -> None:
    Counted.shown.clear()
    _, results = await finished(
        tmp_path / "run", data, HERE, GENERATE, evaluate("last", f"split: train, {view()}"), **fakes()
    )
    assert len(Counted.shown) == 10 and results["last"].metrics["eval/prompts"] == 10
    assert results["last"].metrics["eval/score"] == 1


async def test_a_view_that_leaves_no_room_for_answers_is_refused(tmp_path: Path, data: str) -> None:
    fits = r"stages.last.view makes prompts of up to \d+ tokens.*model.max_context=256.*fix: set model.max_context=\d+"
    with pytest.raises(DataError, match=fits):
        await finished(tmp_path / "run", data, HERE, GENERATE, evaluate("last", view(30)), **fakes())


async def test_a_measure_reads_the_table_that_another_evaluation_left(tmp_path: Path, data: str) -> None:
    measure = f"measures: {{score: {{_target_: {__name__}.Scores}}}}"
    against = measure.replace("Scores", "Scores, other: '@first'")
    stages = [evaluate("first", measure), GENERATE, evaluate("last", f"{against}, {view()}")]
    context, results = await finished(tmp_path / "run", data, HERE, *stages, **fakes())
    assert results["last"].metrics["eval/score/apart"] == 2
    path = context.folder.path / "stages/first/measures/score.jsonl"
    assert results["first"].artifacts == {"score": str(path)} and len(lines(path)) == 2


def test_a_run_without_a_learner_is_not_asked_for_its_room() -> None:
    others = [f"~stages.{name}" for name in ("warmup", "before", "rl")]
    small = ["recipe=grpo", "scale=tiny", "learner.micro_batch_tokens=8"]
    for overrides, told in ((small, True), ([*small, *others], False)):
        _, problems = compose_with_problems(overrides)
        assert any(problem.key == "learner.micro_batch_tokens" for problem in problems) is told
