"""Evaluation over several named prompt sets: what is asked, what is written down, and what is refused before a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from raylign.config.build import part_config
from raylign.config.compose import compose
from raylign.config.resolve import ResolvedPart
from raylign.contracts import StageResult
from raylign.data.prompts import Split
from raylign.data.source import DatasetSource
from raylign.errors import ConfigError
from raylign.evaluate import Evaluation
from raylign.recipes.stages.evaluate import Evaluate
from raylign.records import Group, Prompt

PLAIN = {"_target_": "raylign.data.source.DatasetSource"}


class Counting(DatasetSource):
    """A source whose metrics say how many groups it has observed."""

    @dataclass
    class Config(DatasetSource.Config):
        """Nothing more."""

    def observe(self, groups: Sequence[Group]) -> None:
        self.observed = len(groups)

    def metrics(self) -> dict[str, float]:
        return {"observed": float(self.observed)}


class Run:
    """What of a run the stage asks for; the scores are given, in the order of the evaluations."""

    def __init__(self, scores: Sequence[float]) -> None:
        prompts = [Prompt(id=f"p{i}", messages=(), token_ids=np.zeros(1, np.int32)) for i in range(5)]
        self.prompts = SimpleNamespace(first=lambda split, count: tuple(prompts[: count or None]))
        self.template = None
        self.folder = SimpleNamespace(stage=Path)
        self.run = SimpleNamespace(parts={})
        self.begun: list[Any] = []
        self.asked: list[list[str]] = []
        self.recorded: list[dict[str, float]] = []
        self._scores = list(scores)

    async def auditor(self) -> None:
        return None

    def begin(self, *given: Any) -> None:
        self.begun.append(given)

    def record(self, name: str, step: int, metrics: dict[str, float], groups: Sequence[Group], audited: None) -> None:
        assert step == len(self.recorded) + 1
        self.recorded.append(metrics)

    def phase(self, *_: Any) -> None: ...

    async def rollouts(self) -> None: ...

    async def strategy(self) -> None: ...

    async def rewards(self) -> None: ...

    async def evaluate(self, prompts: Sequence[Prompt], *_: Any) -> Evaluation:
        self.asked.append([prompt.id for prompt in prompts])
        groups = [Group(prompt=prompt, trajectories=(), scores=()) for prompt in prompts]
        return Evaluation(metrics={"eval/score": self._scores[len(self.asked) - 1]}, groups=groups)


async def evaluated(run: Run, **fields: Any) -> StageResult:
    run.run.parts = {f"stages.after.sets.{name}": part(node) for name, node in fields.get("sets", {}).items()}
    return await Evaluate(Evaluate.Config(**fields), "after").run(run)  # type: ignore[arg-type]


def part(node: dict[str, Any]) -> ResolvedPart:
    cls, config = part_config(node, "")
    return ResolvedPart(key="", node=node, cls=cls, config=config)


async def test_each_set_is_a_step_with_its_own_score_and_what_its_source_observed() -> None:
    counting = {"_target_": f"{Counting.__module__}.Counting"}
    run = Run([0.25, 0.75])
    result = await evaluated(run, split=Split.train, prompts=3, sets={"easy": counting, "hard": counting})
    assert result.steps == 2 and run.begun == [("after", 2, 0)]
    assert run.recorded == [{"easy/score": 0.25, "easy/observed": 3.0}, {"hard/score": 0.75, "hard/observed": 3.0}]
    assert result.metrics == run.recorded[0] | run.recorded[1]
    assert run.asked[0] != run.asked[1], "sets of one source are different samples"
    again = Run([0.25, 0.75])
    await evaluated(again, split=Split.train, prompts=3, sets={"easy": counting, "hard": counting})
    assert again.asked == run.asked, "every run is asked the same"


@pytest.mark.parametrize("prompts", [0, 12])
async def test_a_set_asks_every_prompt_at_most_once(prompts: int) -> None:
    run = Run([0.5])
    await evaluated(run, prompts=prompts, sets={"all": PLAIN})
    assert sorted(run.asked[0]) == [f"p{i}" for i in range(5)]


async def test_without_sets_the_split_is_asked() -> None:
    run = Run([0.5])
    result = await evaluated(run, prompts=2)
    assert run.asked == [["p0", "p1"]] and result == StageResult(steps=1, metrics={"eval/score": 0.5})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            "split: train, sets: {a: {_target_: raylign.data.source.DatasetSource, shufle: false}}",
            "did you mean shuffle",
        ),
        ("split: train, sets: {a: {_target_: raylign.actors.reward.exact.ExactMatch}}", "is not a prompt source"),
        ("sets: {a: {_target_: raylign.data.source.DatasetSource}}", "held-out prompts and there are none"),
    ],
)
def test_what_is_no_set_is_refused_before_a_run(fields: str, message: str) -> None:
    stage = f"+stages.held={{_target_: raylign.recipes.stages.evaluate.Evaluate, {fields}}}"
    with pytest.raises(ConfigError, match=message):
        compose(["recipe=grpo", "scale=tiny", "data.holdout=0", "~stages.before", "~stages.rl", "~stages.after", stage])
