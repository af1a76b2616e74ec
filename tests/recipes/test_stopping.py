"""Before the first step: Ctrl-C stops at once, spent memory is one line, a model is built where it may be."""

from __future__ import annotations

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
    recorder, nobody = SimpleNamespace(event=None), cast(Any, None)
    context = RunContext(composed, cast(Any, folder), cast(Any, recorder), nobody, cast(Any, placement))
    model = Path(context.lineage.of(""))
    assert model.is_relative_to(tmp_path / "cache") and (model / "config.json").exists()


def test_failed_draws_have_a_limit_beside_every_rewards() -> None:
    cfg = compose(["recipe=grpo", "scale=tiny", "rollout.max_missing=0.25"]).config
    limits = RunContext.missing_limits.fget(cast(Any, SimpleNamespace(cfg=cfg)))  # type: ignore[attr-defined]
    assert limits[SAMPLED] == 0.25 and set(cfg.rewards) < set(limits)
