"""Adapters alone go from a learner to real engines, step after step, and are exported merged and beside the model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from short_runs import places
from test_variants import OVERRIDES

from raylign.config.compose import compose
from raylign.recipes.opening import open_run
from raylign.recipes.stages.context import RunContext

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
LORA = ["variant=grpo", "stages.rl.lora={rank: 8, alpha: 32, lr: 1e-2, sync: adapter}", "stages.rl.steps=3"]


async def train(context: RunContext) -> tuple[dict[str, float], dict[str, float]]:
    """What the start was worth before the stage, and after it, when the engines last had the stage's adapters."""
    stage = context.enter("rl")
    start = context.lineage.model
    before = await sampled(context)
    await stage.cls(stage.config, "rl").run(context)
    trained, context.lineage.model = context.lineage.model, start
    after = await sampled(context)
    context.lineage.model = trained
    context.record("rl", 4, await sampled(context))
    await context.roles.close()
    return before, after


async def sampled(context: RunContext) -> dict[str, float]:
    return dict((await context.evaluate(context.prompts.train[:8], samples=2, greedy=False)).metrics)


def test_adapters_alone_are_sent(tmp_path: Path) -> None:
    with open_run(compose([*OVERRIDES, *LORA, *places(tmp_path / "run")])) as context:
        before, after = asyncio.run(train(context))
    assert before == after, "its own weights were sampled, not the stage's"
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [step for step in map(json.loads, lines) if "publish/bytes" in step]
    assert len(steps) == 3 and all(step["sampler_gap"] < 1e-5 and step["publish/gap_max"] < 1e-4 for step in steps)
    model = tmp_path / "run" / "stages" / "rl" / "model"
    adapter = load_file(model / "adapter" / "adapter_model.safetensors")
    assert all(tensor.any() for tensor in adapter.values()), "every layer's adapter has learned"
    size = sum(tensor.nbytes for tensor in adapter.values())
    assert all(size <= step["publish/bytes"] < 1.1 * size for step in steps)
    assert size < 0.5 * sum(tensor.nbytes for tensor in load_file(model / "model.safetensors").values())
