"""Every variant trains the tiny model and improves it, on the same real engines one after the other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from short_runs import places

from raylign.config.compose import compose, options
from raylign.recipes.opening import open_run
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.rl import Rl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
VARIANTS = options("variant")
STEPS = 18
GAIN = 0.2  # of the sampled reward, from about .23; 12 steps at a third of the rate gain .07 to .14
OVERRIDES = [
    "recipe=grpo",
    "scale=tiny",
    "seed=5",
    "model.tiny.hidden_size=64",
    "model.tiny.layers=2",
    "data.size=80",
    "data.holdout=0",
    "~stages.warmup",
    "~stages.before",
    "~stages.after",
    "rewards.correct.fn={_target_: raylign.actors.reward.python.PythonFunction, path: letters.share_of_letters}",
    "run.allow_targets=[letters.]",
    "rollout.sampling.max_tokens=8",
    "telemetry.progress=none",
    f"stages.rl.steps={STEPS}",
    "stages.rl.prompts_per_step=8",
    "stages.rl.eval_every=0",
    "learner.optim.lr=3e-3",
    "learner.optim.warmup_steps=0",
    "learner.optim.schedule=constant",
]


async def sampled_reward(context: RunContext) -> float:
    evaluation = await context.evaluate(context.prompts.train[:32], samples=4, greedy=False)
    return evaluation.score


async def train_all(context: RunContext) -> dict[str, tuple[float, float]]:
    """(mean reward before, after) of every variant, each from the same random model."""
    model, start, rewards = context.lineage.model, await sampled_reward(context), {}
    for variant in VARIANTS:
        context.run = compose([*OVERRIDES, f"variant={variant}"])
        context.lineage.model = model
        context.first_step += STEPS
        await Rl(context.run.parts["stages.rl"].config, f"rl-{variant}").run(context)
        rewards[variant] = (start, await sampled_reward(context))
    await context.roles.close()
    return rewards


def test_every_variant_improves(tmp_path: Path) -> None:
    roomy = ["variant=ppo", "objective.kl_coef=0.001"]  # placement with a critic and a reference
    with open_run(compose([*OVERRIDES, *roomy, *places(tmp_path / "run")])) as context:
        rewards = asyncio.run(train_all(context))
    short = [
        f"{name} {before:.3f} -> {after:.3f}" for name, (before, after) in rewards.items() if after < before + GAIN
    ]
    assert not short, ", ".join(short)
