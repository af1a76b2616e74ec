"""Before the first step: Ctrl-C stops at once, spent memory is one line, a model is built where it may be."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.exceptions import OutOfMemoryError

from raylign.config.compose import compose
from raylign.errors import OUT_OF_MEMORY, RunError
from raylign.loop.reward_metrics import SAMPLED
from raylign.plan import make_plan
from raylign.recipes import run
from raylign.recipes.stages.context import RunContext
from raylign.run_folder import RunFolder

SMALL = ["model.tiny.hidden_size=8", "model.tiny.layers=1", "model.tiny.intermediate_size=8"]


class Said:
    """A context and its progress: what was asked, and what a person was told."""

    def __init__(self, recorded: bool) -> None:
        self.recorded, self.stop_requested, self.messages = recorded, False, list[str]()
        self.progress = SimpleNamespace(message=self.messages.append)


async def interrupted(recorded: bool, number: signal.Signals) -> tuple[Said, str]:
    """What a signal does to a stage that waits for its engines."""
    said, loop = Said(recorded), asyncio.get_running_loop()

    async def work() -> str:
        run._stop_on_signals(cast(RunContext, said))
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.2)
        return "went on"

    try:
        return said, await asyncio.ensure_future(work())
    except asyncio.CancelledError:
        return said, "ended"
    finally:
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(one)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("recorded", "comes_to"), [(False, "ended"), (True, "went on")])
async def test_the_first_signal_ends_what_has_done_no_step(
    number: signal.Signals, recorded: bool, comes_to: str
) -> None:
    said, came_to = await interrupted(recorded, number)
    assert came_to == comes_to and said.stop_requested and len(said.messages) == 1


def test_memory_that_ran_out_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    composed = compose(["recipe=grpo", "scale=tiny", f"run.dir={tmp_path / 'run'}", "telemetry.progress=plain"])

    def connect(*_: Any) -> None:
        raise OutOfMemoryError("a page of text\nof Ray's")

    monkeypatch.setattr(run, "connect", connect)
    with pytest.raises(RunError) as caught, run.open_run(composed):
        pass
    assert str(caught.value) == OUT_OF_MEMORY and "\n" not in OUT_OF_MEMORY
    RunFolder.open(composed.config, composed.tree).close()  # not left locked


def test_a_tiny_model_is_built_in_the_runs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "/proc/nothere")
    composed = compose(["recipe=grpo", "scale=tiny", f"run.cache_dir={tmp_path / 'cache'}", *SMALL])
    placement, folder = SimpleNamespace(plan=make_plan(composed)), SimpleNamespace(path=tmp_path)
    nobody = cast(Any, None)
    context = RunContext(composed, cast(Any, folder), nobody, nobody, cast(Any, placement))
    model = Path(context.lineage.of(""))
    assert model.is_relative_to(tmp_path / "cache") and (model / "config.json").exists()


def test_failed_samples_have_a_limit_beside_every_rewards() -> None:
    cfg = compose(["recipe=grpo", "scale=tiny", "rollout.max_missing=0.25"]).config
    limits = RunContext.missing_limits.fget(cast(Any, SimpleNamespace(cfg=cfg)))  # type: ignore[attr-defined]
    assert limits[SAMPLED] == 0.25 and set(cfg.rewards) < set(limits)
