"""A model that is computed one row at a time is slow for a reason: the screen and an event say so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raylign.actors.learner import engine
from raylign.actors.learner.group import LearnerGroup
from raylign.actors.learner.spec import LearnerSpec, Loaded
from raylign.actors.learner.worker import LearnerWorker
from raylign.actors.roles import Roles
from raylign.actors.watching import unseen
from raylign.config.compose import compose
from raylign.config.schema import LearnerConfig

NOTE = "BloomForCausalLM is computed one row at a time, without shared prompts: packed, it fails"
SPEC = LearnerSpec(model_path="m", learner=LearnerConfig(ranks=2), total_steps=1)


def test_a_rank_reports_the_note_of_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    made = SimpleNamespace(note=NOTE, parameters=7, kind=SimpleNamespace(streams=frozenset()))
    monkeypatch.setattr(engine, "TrainingEngine", lambda *args: made)
    worker: Any = LearnerWorker.__new__(LearnerWorker)  # without its process
    worker._engine, worker._rank, worker._world, worker._device = None, 0, 1, None
    loaded = worker.load(SPEC)
    assert (loaded.note, loaded.parameters) == (NOTE, 7)


@pytest.mark.parametrize("note", [NOTE, ""])
async def test_the_run_says_it_where_it_is_looked_at(tmp_path: Path, note: str) -> None:
    group = LearnerGroup("learner", LearnerConfig(ranks=2), log_dir=tmp_path, options=lambda rank: {})

    async def call(method: str, *args: Any, deadline: float) -> list[Loaded]:
        return [Loaded(seconds=seconds, parameters=7, note=note) for seconds in (1.0, 2.0)]

    group._group.call = call  # type: ignore[method-assign]
    told = list[tuple[str, str, dict[str, Any]]]()
    roles: Any = Roles.__new__(Roles)  # without its run
    roles.frozen, roles.starting = SimpleNamespace(), unseen
    roles.engines = SimpleNamespace(learner_loads=lambda: None)
    roles.run, roles._learners = compose(["recipe=grpo", "scale=tiny"]), {"learner": group}
    roles.told = lambda name, message="", **facts: told.append((name, message, facts))
    await roles._learner("learner", LearnerSpec(model_path="m", learner=LearnerConfig(), total_steps=1))
    assert told == ([("layout", f"learner: {NOTE}", {"role": "learner", "note": NOTE})] if note else [])
