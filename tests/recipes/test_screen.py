"""Which seeds the screen keeps, and that the file it writes is read back as the same prompts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from raylign.config.compose import compose
from raylign.data.readers import load_rows
from raylign.errors import ConfigError, DataError
from raylign.evaluate import Evaluation
from raylign.recipes.stages.screen import Screen
from raylign.records import Group, Prompt, StopReason, Trajectory, Value

SOLVED = {"never": (0, 0, 0, 0), "once": (0, 1, 0, 0), "often": (1, 1, 1, 0), "always": (1, 1, 1, 1)}


def groups() -> list[Group]:
    groups = []
    for name, scores in SOLVED.items():
        messages = ({"role": "user", "content": name},)
        prompt = Prompt(
            id=name, messages=messages, token_ids=np.array([1], np.int32), answer="7", domain="d", meta={"level": 3}
        )
        trajectories = tuple(
            Trajectory(
                prompt_key=prompt.key,
                sample_index=index,
                calls=(),
                seed=0,
                stop=StopReason.DONE,
                rewards={"correct": Value(score=float(score))},
            )
            for index, score in enumerate(scores)
        )
        groups.append(Group(prompt=prompt, trajectories=trajectories, scores=tuple(map(float, scores))))
    return groups


class Run:
    """The three things of a run that the stage asks for; the answers are given."""

    def __init__(self, folder: Path) -> None:
        self.prompts = SimpleNamespace(train=[group.prompt for group in groups()])
        self.folder = SimpleNamespace(stage=lambda name: folder / name)

    def begin(self, *_: Any) -> None: ...

    def record(self, *_: Any) -> None: ...

    async def strategy(self) -> None: ...

    async def evaluate(self, prompts: Any, samples: int, greedy: bool, sampling: Any, strategy: Any) -> Evaluation:
        assert len(prompts) == 4 and samples == 4 and not greedy and sampling is None
        return Evaluation(metrics={"eval/score": 0.5}, groups=groups())


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [({}, ["once", "often", "always"]), ({"at_least": 4}, ["always"]), ({"at_most": 3}, ["once", "often"])],
)
async def test_screen_keeps_what_is_solved_within_bounds(
    bounds: dict[str, int], kept: list[str], tmp_path: Path
) -> None:
    stage = Screen(Screen.Config(samples=4, **bounds), "screen")
    result = await stage.run(Run(tmp_path))  # type: ignore[arg-type]
    assert result.metrics["screen/share"] == len(kept) / 4
    rows = list(load_rows(result.artifacts["rows"])[1])
    assert [row.messages[0]["content"] for row in rows] == kept
    assert {(row.answer, row.domain, row.meta["level"]) for row in rows} == {("7", "d", 3)}


async def test_screen_that_keeps_nothing_is_an_error(tmp_path: Path) -> None:
    stage = Screen(Screen.Config(samples=4, at_least=2, at_most=2), "screen")
    with pytest.raises(DataError, match="keeps none of 4 prompts"):
        await stage.run(Run(tmp_path))  # type: ignore[arg-type]


def test_screen_is_a_stage_and_impossible_bounds_are_refused() -> None:
    tiny = ["recipe=grpo", "scale=tiny", *(f"~stages.{name}" for name in compose(["recipe=grpo"]).config.stages)]
    stage = "stages.screen={{_target_: raylign.recipes.stages.screen.Screen, samples: 4, at_least: {}}}"
    assert list(compose([*tiny, stage.format(1)]).config.stages) == ["screen"]
    with pytest.raises(ConfigError, match="no number of 4 fits"):
        compose([*tiny, stage.format(5)])
    with pytest.raises(ConfigError, match="is no reward of this run"):
        compose([*tiny, stage.format(1).replace("samples: 4", "reward: corect")])
