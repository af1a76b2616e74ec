"""All eight variants train the tiny model and improve it, on the same real engines one after the other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raylign.config.build import part_config
from raylign.config.compose import compose
from raylign.recipes.run import open_run
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.rl import Rl
from raylign.recipes.stages.sft import Sft

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
VARIANTS = ("grpo", "dr_grpo", "dapo", "rloo", "reinforce_pp", "ppo", "gspo", "cispo")
STEPS = 60
GAIN = 0.1  # of the sampled pass rate on the trained prompts, from about .4
OVERRIDES = [
    "recipe=grpo",
    "scale=tiny",
    "seed=5",
    "model.tiny.hidden_size=96",
    "model.tiny.layers=2",
    "data.task_args={min_terms: 2, max_terms: 2, min_digits: 1, max_digits: 1, operators: ['+'], "
    "allow_parentheses: false, allow_negation: false}",
    "data.size=80",
    "data.holdout=0",
    "rollout.sampling.max_tokens=6",
    "telemetry.progress=none",
    f"stages.rl.steps={STEPS}",
    "stages.rl.prompts_per_step=16",
    "stages.rl.eval_every=0",
    "learner.optim.lr=3e-4",
    "learner.optim.schedule=constant",
]


async def sampled_pass_rate(context: RunContext) -> float:
    found = await context.evaluate(context.prompts.train, samples=4, greedy=False)
    return found.score


async def train_all(context: RunContext) -> dict[str, tuple[float, float]]:
    """(pass rate before, after) of every variant, each from the same warmed-up model."""
    context.prompts = type(context.prompts)(
        train=context.prompts.train, holdout=context.prompts.train, report=context.prompts.report
    )
    sft = Sft.Config(steps=600, batch_size=32, eval_every=20, eval_prompts=80, stop_at=0.35)
    sft.optim.lr = 2e-3
    warm = (await Sft(sft, "warmup").run(context))["model"]
    context.first_step = 600
    start = await sampled_pass_rate(context)
    found = {}
    for variant in VARIANTS:
        context.cfg = compose([*OVERRIDES, f"variant={variant}"]).config
        context.model_path = warm
        context.first_step += STEPS
        _, config = part_config(context.cfg.stages["rl"], "stages.rl")
        await Rl(config, f"rl-{variant}").run(context)
        found[variant] = (start, await sampled_pass_rate(context))
    await context.close()
    return found


def test_every_variant_improves(tmp_path: Path) -> None:
    roomy = ["variant=ppo", "objective.kl_coef=0.001"]  # placement with a critic and a reference
    cfg, resolved = compose([*OVERRIDES, *roomy, f"run.dir={tmp_path / 'run'}"])
    with open_run(cfg, resolved) as context:
        found = asyncio.run(train_all(context))
    measured = {name: f"{before:.2f} -> {after:.2f}" for name, (before, after) in found.items()}
    assert all(after >= before + GAIN for before, after in found.values()), measured
