"""Signals, and what they may not touch; spent memory is one line, and a model is built where it may be."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.exceptions import OutOfMemoryError

from raylign.config.compose import compose
from raylign.errors import OUT_OF_MEMORY, RunError
from raylign.loop.reward_metrics import SAMPLED
from raylign.plan import make_plan
from raylign.recipes import opening
from raylign.recipes.stages.context import RunContext, StopRequested
from raylign.recipes.stopping import stopping_on_signals
from raylign.run_folder import RunFolder

SMALL = ["model.tiny.hidden_size=8", "model.tiny.layers=1", "model.tiny.intermediate_size=8"]


class Said:
    """A context and its progress: what was asked, and what a person was told."""

    def __init__(self, recorded: bool, asked: bool = False) -> None:
        self.recorded, self.stop_requested, self.messages = recorded, asked, list[str]()
        self.progress = SimpleNamespace(message=self.messages.append)


def signals(said: Said) -> AbstractContextManager[None]:
    return stopping_on_signals(cast(RunContext, said))


def hit() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def test_what_comes_after_a_stop_is_not_ended_with_it() -> None:
    with pytest.raises(StopRequested, match="before a step"), signals(Said(recorded=False)):
        hit()
    await asyncio.sleep(0.02)  # the way out: actors are closed, logs written


async def test_a_stop_that_an_alarm_asked_for_is_no_first_signal() -> None:
    said = Said(recorded=True, asked=True)
    with signals(said):
        hit()
        await asyncio.sleep(0.01)
    assert len(said.messages) == 1


async def test_a_signal_does_not_wait_for_a_busy_loop() -> None:
    said, seen = Said(recorded=True), list[bool]()

    async def busy() -> None:
        timer = threading.Timer(0.05, hit)
        timer.start()
        end = time.monotonic() + 5
        while time.monotonic() < end and not said.stop_requested:
            pass
        seen.append(said.stop_requested)
        timer.join()

    with signals(said):
        await asyncio.create_task(busy())
    assert seen == [True]


async def test_what_somebody_else_cancels_is_no_stop() -> None:
    async def work() -> None:
        with signals(Said(recorded=False)):
            await asyncio.sleep(5)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_memory_that_ran_out_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    composed = compose(["recipe=grpo", "scale=tiny", f"run.dir={tmp_path / 'run'}", "telemetry.progress=plain"])

    def connect(*_: Any) -> None:
        raise OutOfMemoryError("a page of text\nof Ray's")

    monkeypatch.setattr(opening, "connect", connect)
    with pytest.raises(RunError) as caught, opening.open_run(composed):
        pass
    assert str(caught.value) == OUT_OF_MEMORY and "\n" not in OUT_OF_MEMORY
    RunFolder.open(composed.config, composed.tree).close()  # not left locked


def test_a_tiny_model_is_built_in_the_runs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "/proc/nothere")
    composed = compose(["recipe=grpo", "scale=tiny", f"run.cache_dir={tmp_path / 'cache'}", *SMALL])
    placement, folder = SimpleNamespace(plan=make_plan(composed)), SimpleNamespace(path=tmp_path)
    nobody = cast(Any, SimpleNamespace(event=None))
    context = RunContext(composed, cast(Any, folder), nobody, nobody, cast(Any, placement))
    model = Path(context.lineage.of(""))
    assert model.is_relative_to(tmp_path / "cache") and (model / "config.json").exists()


def test_failed_samples_have_a_limit_beside_every_rewards() -> None:
    cfg = compose(["recipe=grpo", "scale=tiny", "rollout.max_missing=0.25"]).config
    context = SimpleNamespace(cfg=cfg, weights=dict.fromkeys(cfg.rewards, 1.0))
    limits = RunContext.missing_limits.fget(cast(Any, context))  # type: ignore[attr-defined]
    assert limits[SAMPLED] == 0.25 and set(cfg.rewards) < set(limits)
