"""Which model the engines hold, stage after stage: given by the learner where it has it, else by a new start."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from raylign.actors.engines import Engines
from raylign.config.schema import TinyModel
from raylign.errors import LearnerError
from raylign.models.tiny import build_tiny_model


class Recorded:
    """What starts, publishes and ends; the learner has the weights of the last stage, unless it died."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.dead = False
        self.engines = Engines(self._started, lambda: self)  # type: ignore[arg-type, return-value]

    async def _started(self, model: str) -> Any:
        self.did.append(f"start {Path(model).name}")
        return self

    async def publish(self, given: Any) -> Any:
        """Of the learner (a version) and of the pool (weights)."""
        if self.dead:
            raise LearnerError("it died")
        self.did += ["publish"] if given == "weights" else []
        return "weights"

    async def close(self) -> None:
        self.did.append("end")

    async def holding(self, model: str, publishes: bool = False) -> list[str]:
        """What has to be done until the engines hold it."""
        before = len(self.did)
        await self.engines.holding(model, publishes)
        return self.did[before:]


@pytest.fixture
def models(tmp_path: Path) -> tuple[str, str, str]:
    """The start, what a stage exports, and a model of another shape."""
    for name, layers in (("start", 1), ("trained", 1), ("other", 2)):
        shutil.copytree(
            build_tiny_model(TinyModel(hidden_size=32, layers=layers, heads=2, kv_heads=1)), tmp_path / name
        )
    start, trained, other = (str(tmp_path / name) for name in ("start", "trained", "other"))
    return start, trained, other


async def test_what_a_stage_trained_comes_from_the_learner(models: tuple[str, str, str]) -> None:
    start, trained, _ = models
    run = Recorded()
    assert await run.holding(start) == ["start start"] and await run.holding(start) == []
    run.engines.stage_trained(trained, published=None, whole=True)
    assert await run.holding(start) == [], "nothing of the stage was published"
    assert await run.holding(trained) == ["publish"] and await run.holding(trained) == []
    assert await run.holding(start) == ["end", "start start"]


async def test_a_learner_that_loads_or_dies_has_it_no_more(models: tuple[str, str, str]) -> None:
    start, trained, _ = models
    for lose in ("loads", "dies"):
        run = Recorded()
        await run.holding(start)
        run.engines.stage_trained(trained, published=None, whole=True)
        run.dead = lose == "dies"
        if lose == "loads":
            run.engines.learner_loads()
        assert await run.holding(trained) == ["end", "start trained"]


@pytest.mark.parametrize(("published", "whole"), [(True, False), (False, True), (False, False)])
async def test_engines_with_weights_of_no_folder_pass_for_none(
    models: tuple[str, str, str], published: bool, whole: bool
) -> None:
    start, trained, _ = models
    run = Recorded()
    await run.holding(start)
    run.engines.stage_trained(trained, published=published, whole=whole)
    assert await run.holding(start) == ["end", "start start"]
    run.engines.stage_trained(trained, published=published, whole=whole)
    assert await run.holding(trained) == (["publish"] if whole else ["end", "start trained"])


async def test_what_was_published_last_is_held(models: tuple[str, str, str]) -> None:
    start, trained, _ = models
    run = Recorded()
    assert await run.holding(start, publishes=True) == ["start start"]
    run.engines.stage_trained(trained, published=True, whole=True)
    assert await run.holding(trained) == []
    assert await run.holding(start, publishes=True) == [], "new weights come first"


async def test_another_template_or_end_of_turn_is_always_started(models: tuple[str, str, str]) -> None:
    start, trained, other = models
    shutil.rmtree(other)
    for change in ("chat_template.jinja", "generation_config.json"):
        shutil.copytree(start, other)
        file = Path(other) / change
        file.write_text(f"{file.read_text()}!" if change.endswith("jinja") else '{"eos_token_id": [5]}')
        run = Recorded()
        await run.holding(start)
        assert await run.holding(other, publishes=True) == ["end", "start other"]
        assert await run.holding(trained, publishes=True) == ["end", "start trained"]
        shutil.rmtree(other)


async def test_what_a_stage_published_without_a_word_is_no_folders(models: tuple[str, str, str]) -> None:
    start, _, _ = models
    run = Recorded()
    await run.holding(start, publishes=True)
    run.engines.stage_ended()
    assert await run.holding(start) == ["end", "start start"]
    run.engines.stage_ended()
    assert await run.holding(start) == []


async def test_another_shape_is_always_started(models: tuple[str, str, str]) -> None:
    start, _, other = models
    run = Recorded()
    await run.holding(start)
    run.engines.stage_trained(other, published=None, whole=True)
    assert await run.holding(other) == ["end", "start other"]
    assert await run.holding(start, publishes=True) == ["end", "start start"]
