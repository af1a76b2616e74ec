"""A model that is computed one row at a time is slow for a reason: the screen and an event say so."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raylign.actors.learner import engine
from raylign.actors.learner.group import LearnerGroup
from raylign.actors.learner.spec import LearnerSpec, Loaded
from raylign.actors.learner.worker import LearnerWorker
from raylign.config.compose import compose
from raylign.config.schema import LearnerConfig, TelemetryConfig
from raylign.recipes.stages.context import RunContext
from raylign.telemetry.progress import PlainProgress
from raylign.telemetry.recorder import Recorder, read_lines

NOTE = "BloomForCausalLM is computed one row at a time, without shared prompts: packed, it fails"
SPEC = LearnerSpec(model_path="m", learner=LearnerConfig(ranks=2), total_steps=1)


def test_a_rank_reports_the_note_of_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    made = SimpleNamespace(note=NOTE, parameters=7, kind=SimpleNamespace(streams=frozenset()))
    monkeypatch.setattr(engine, "TrainingEngine", lambda *args: made)
    worker: Any = LearnerWorker.__new__(LearnerWorker)  # without its process
    worker._engine, worker._rank, worker._environment, worker._device = None, 0, 1, None
    loaded = worker.load(SPEC)
    assert (loaded.note, loaded.parameters) == (NOTE, 7)


async def test_the_run_says_it_on_the_screen_and_as_an_event(tmp_path: Path) -> None:
    group = LearnerGroup("learner", LearnerConfig(ranks=2), log_dir=tmp_path, options=lambda rank: {})

    async def call(method: str, *args: Any, deadline: float) -> list[Loaded]:
        return [Loaded(seconds=1.0, parameters=7, note=NOTE), Loaded(seconds=2.0, parameters=7, note=NOTE)]

    group._group.call = call  # type: ignore[method-assign]
    context: Any = RunContext.__new__(RunContext)  # without its run
    screen = io.StringIO()
    context.cfg, context._learners = compose(["recipe=grpo", "scale=tiny"]).config, {"learner": group}
    context.progress, context.recorder = PlainProgress(screen), Recorder(tmp_path, TelemetryConfig())
    await context._learner("learner", "causal_lm", "m", LearnerConfig(), 1)
    assert screen.getvalue() == f"learner: {NOTE}\n"
    (event,) = read_lines(tmp_path / "events.jsonl")
    assert (event["kind"], event["role"], event["note"]) == ("layout", "learner", NOTE)


def test_a_model_that_is_packed_needs_no_word(tmp_path: Path) -> None:
    from raylign.recipes.stages.outcome import say_layout

    screen, recorder = io.StringIO(), Recorder(tmp_path, TelemetryConfig())
    say_layout(recorder, PlainProgress(screen), "learner", "")
    assert not screen.getvalue() and not read_lines(tmp_path / "events.jsonl")
