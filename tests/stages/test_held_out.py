"""Every stage that asks held-out prompts is refused where there are none, and only there: null holds out a tenth."""

from __future__ import annotations

import pytest

from raylign.config.compose import compose
from raylign.errors import ConfigError

STAGES = "raylign.recipes.stages"
ASKING = {
    "generate.Generate": "split: holdout",
    "calibrate.Calibrate": "split: holdout",
    "evaluate.Evaluate": "split: holdout",
}


@pytest.mark.parametrize(("kind", "fields"), ASKING.items())
@pytest.mark.parametrize(("holdout", "there"), [("null", True), ("8", True), ("0", False)])
def test_held_out_prompts_are_asked_where_there_are_any(kind: str, fields: str, holdout: str, there: bool) -> None:
    names = compose(["recipe=grpo", "scale=tiny"]).config.stages
    stage = f"+stages.own={{_target_: {STAGES}.{kind}, {fields}}}"
    overrides = ["recipe=grpo", "scale=tiny", *(f"~stages.{name}" for name in names), f"data.holdout={holdout}", stage]
    if there:
        assert list(compose(overrides).config.stages) == ["own"]
        return
    with pytest.raises(ConfigError, match=r"held-out prompts and there are none"):
        compose(overrides)


@pytest.mark.parametrize("stage", ["warmup", "rl"])
def test_a_stage_that_evaluates_while_it_learns_needs_them_too(stage: str) -> None:
    others = ["~stages.before", "~stages.after", f"~stages.{'rl' if stage == 'warmup' else 'warmup'}"]
    asked = ["recipe=grpo", "scale=tiny", *others, "data.holdout=0"]
    with pytest.raises(ConfigError, match=r"data.holdout = 0: stages ask held-out prompts and there are none"):
        compose(asked)
    assert compose([*asked, "data.holdout=128"])
