"""A run whose stages work on fakes: real settings, folder, records, prompts, references and checkpoints; no actors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson

from raylign.contracts import StageResult
from raylign.recipes.stage_order import run_stages
from raylign.recipes.stages.context import RunContext, StopRequested
from raylign.recipes.stages.lineage import Lineage
from raylign.recipes.stages.reading import Reading
from raylign.recipes.stages.records import RunRecords
from raylign.run_folder import RunFolder
from raylign.telemetry.progress import make_progress
from raylign.telemetry.recorder import Recorder
from raylign.testing import FakeRewards, FakeRollouts, tiny_run

ROWS = [
    {"prompt": f"say {n}", "answer": str(n % 10), "completion": f"{n % 10}!", "level": n, "domain": "ab"[n % 2]}
    for n in range(12)
]


class FakeGraders(FakeRewards):
    """As the pools of graders say of themselves."""

    @property
    def maxima(self) -> dict[str, float]:
        return dict.fromkeys(self.names, 1.0)

    @property
    def grouped(self) -> bool:
        return False


class FakeRun(RunContext):
    """The context of a run over fakes, of stages that a test brings.

    whole: with the recipe's own stages, too. stop_after: recorded steps after which a signal comes.
    """

    def __init__(
        self,
        folder: Path,
        *overrides: str,
        rewards: Any,
        rollouts: Any = None,
        stop_after: int = 0,
        whole: bool = False,
        graders: Any = None,
    ) -> None:
        others = [] if whole else [f"~stages.{name}" for name in ("warmup", "before", "rl", "after")]
        run = tiny_run(*others, f"run.dir={folder}", "data.holdout=2", "telemetry.progress=none", *overrides)
        opened = RunFolder.open(run.config, run.tree)
        recorder = Recorder(opened.path, run.config.telemetry)
        RunRecords.__init__(self, opened, recorder, make_progress("none"), run.config.alarms)
        self.run, self.stage = run, None
        self.lineage = Lineage("the-start", opened, run)
        self.reading = Reading(run)
        self.reading.start = MODEL.path
        self.template = self.reading.template
        self.fakes = SimpleNamespace(rollouts=rollouts or FakeRollouts(), rewards=FakeRewards(rewards))
        self.roles: Any = SimpleNamespace(
            run=run,
            engines=SimpleNamespace(pool=None, start_ahead=lambda model: None, stage_ended=lambda: None),
            reward_pools=None,
            scoring_pools=(),
            graders=self._graders,
            shared=False,
            close=self.close,
        )
        self._stop_after, self.steps, self._fake_graders = stop_after, 0, graders

    async def rollouts(self, publishes: bool = False) -> Any:
        return self.fakes.rollouts

    async def rewards(self) -> Any:
        return self.fakes.rewards

    async def _graders(self, prompts: Any) -> Any:
        return FakeGraders(self._fake_graders)

    def record(self, *given: Any, **named: Any) -> None:
        super().record(*given, **named)
        self.steps += 1
        self.stop_requested |= self.steps == self._stop_after

    async def close(self) -> None:
        self.recorder.close()
        self.folder.close()


class MODEL:
    """Where the tokenizer of all runs is."""

    path = ""


async def finished(folder: Path, *overrides: str, **fakes: Any) -> tuple[FakeRun, dict[str, StageResult]]:
    """A run to its end, and the results of its stages."""
    context = FakeRun(folder, *overrides, **fakes)
    await run_stages(context)
    return context, {stage.name: context.folder.stage_result(stage.name) for stage in context.run.stages}  # type: ignore[misc]


async def stopped(folder: Path, *overrides: str, **fakes: Any) -> None:
    """A run that saves itself after `stop_after` steps."""
    try:
        await run_stages(FakeRun(folder, *overrides, **fakes))
    except StopRequested:
        return
    raise AssertionError("the run came to its end")


def lines(path: str | Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in Path(path).read_bytes().splitlines()]
