"""A learner that dies is started again, so often; one whose model cannot be loaded is not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raylign.config.compose import compose
from raylign.errors import LearnerError, LoadError
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.rl import Rl

RESTARTS = 2


@pytest.mark.parametrize(("error", "tries"), [(LoadError, 1), (LearnerError, RESTARTS + 1)])
async def test_what_fails_by_content_is_tried_once(
    error: type[LearnerError], tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = compose(["recipe=grpo", "scale=tiny", f"learner.max_restarts={RESTARTS}"]).config
    stage, tried, told = Rl(Rl.Config(), "rl"), [], list[str]()

    async def loop(context: RunContext) -> Any:
        tried.append(context)
        raise error("the learner is gone")

    async def end_learners() -> None:
        told.append("ended")

    monkeypatch.setattr(stage, "loop", loop)
    context = SimpleNamespace(
        cfg=cfg,
        folder=SimpleNamespace(stage=lambda name: tmp_path),
        recorder=SimpleNamespace(event=lambda kind, **fields: told.append(kind)),
        progress=SimpleNamespace(message=told.append),
        roles=SimpleNamespace(end_learners=end_learners),
    )
    with pytest.raises(error, match="the learner is gone"):
        await stage.run(cast(RunContext, context))
    assert len(tried) == tries and told.count("learner_restarted") == tries - 1
