"""The recipe through the command line: a curriculum with ARLCP's shaper, killed and resumed; G-OPD with its source."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import orjson
import pytest
from short_runs import killed, steps, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SHAPE = [
    "model.tiny.hidden_size=32",
    "model.tiny.layers=1",
    "model.tiny.heads=2",
    "model.tiny.kv_heads=2",
    "model.tiny.intermediate_size=64",
    "model.tiny.init_std=0.15",
    "telemetry.progress=none",
]
COMPOSER = "{_target_: raylign.recipes.composition_rl.SymbolicComposer, style: formula, modulus: 10}"
RUN = [
    "recipe=composition_rl",
    "scale=tiny",
    "seed=2",
    *SHAPE,
    "~stages.before",
    "stages.warmup.steps=150",
    "stages.warmup.batch_size=32",
    "stages.warmup.optim.lr=6e-3",
    "stages.rl.steps=5",
    "stages.rl.prompts_per_step=16",
    "stages.rl.group_size=4",
    "stages.rl.sampling_rounds=2",
    "stages.after.prompts=32",
    # every ratio is above -1, so the depth rises after three steps
    "source.curriculum={depths: [1, 2], trigger: solve_all, solve_all_above: -1, solve_all_steps: 3}",
    "shaper={_target_: raylign.recipes.arlcp.ReflectionPenalty}",
    "run.save_every=2",
]
G_OPD = [
    "recipe=g_opd",
    "scale=tiny",
    "seed=2",
    *SHAPE,
    "data.generator={_target_: raylign.recipes.composition_rl.Digits}",
    "data.size=300",
    "data.holdout=0",
    "data.max_prompt_tokens=40",
    "~stages.after",
    "rewards.correct.fn={_target_: raylign.recipes.composition_rl.MarkedAnswer}",
    f"source={{_target_: raylign.recipes.composition_rl.CompositionSource, composer: {COMPOSER}}}",
    "stages.base.steps=30",
    "stages.teacher.steps=1",
    "stages.distill.steps=2",
    "stages.distill.prompts_per_step=8",
]


@pytest.mark.skipif(find_spec("raylign.recipes.arlcp") is None, reason="recipe arlcp is not installed")
def test_curriculum_with_another_recipes_shaper_survives_a_kill_behind_the_switch(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    killed(folder, RUN, ("rl", "learn", 4), delay=0.0)
    before = steps(folder, "rl")
    assert len(before) == 4
    train(folder, RUN)
    rows = steps(folder, "rl")
    assert len(rows) == 5 and [row["step"] for row in rows[: len(before)]] == [row["step"] for row in before]
    assert [row["source/depth"] for row in rows] == [1, 1, 1, 2, 2]
    assert '"resumed"' in (folder / "events.jsonl").read_text()
    asked = [row.get("source/composer/asked", 0) for row in rows]
    assert asked[2] == 0 and 0 < asked[3] < asked[4], "counts go on where the killed run left them"
    assert all({"arlcp/correct", "arlcp/reflections", "arlcp/tier_easy"} <= row.keys() for row in rows)
    assert all({"source/solve_all", "source/solve_none", "groups/fill", "groups/rounds"} <= row.keys() for row in rows)
    assert all({"source/v1_recovered", "source/length/depth_2", "source/seeds/used"} <= row.keys() for row in rows[3:])
    finished = orjson.loads((folder / "finished.json").read_bytes())["metrics"]
    assert {"after/depth_1/score", "after/depth_2/score", "after/depth_2/v1_recovered"} <= finished.keys()


@pytest.mark.skipif(find_spec("raylign.recipes.g_opd") is None, reason="recipe g_opd is not installed")
def test_distillation_takes_the_source_by_overrides_alone(tmp_path: Path) -> None:
    train(tmp_path / "run", G_OPD)
    rows = steps(tmp_path / "run", "distill")
    assert len(rows) == 2 and all(row["source/depth"] == 2 for row in rows)
    assert rows[-1]["source/composer/yield"] == 1.0
