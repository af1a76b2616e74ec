"""The sampler of a stage that writes down what was sampled, over its own actors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from raylign.actors.judge.chat import ChatModel
from raylign.actors.judge.served import Served
from raylign.config.sampling import sampling_of
from raylign.config.schema import SamplingConfig
from raylign.contracts import RolloutPool, StrategySpec
from raylign.loop.group_sampler import GroupSampler
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.teachers import chat_rollouts, teacher_of
from raylign.records import derive_seed


def served(name: str) -> ChatModel:
    """The model behind a name under `judges`."""
    return Served(Served.Config(name=name))


async def group_sampler(
    context: RunContext, sampling: SamplingConfig | None, by: str = "", teacher: Mapping[str, Any] | None = None
) -> GroupSampler:
    """The sampler of the present stage; its actors are started. Its seeds are the stage's own.

    sampling: None takes the run's; by: a name under `judges`, or teacher: a chat model, which answers in place of the
    engines.
    """
    strategy: StrategySpec | None = None
    rollouts: RolloutPool
    if by or teacher:
        model = teacher_of(context.name, teacher) if teacher else served(by)
        rewards, rollouts = await context.rewards(), await chat_rollouts(context, model)  # judges come with the rewards
    else:
        rewards, rollouts, strategy = await asyncio.gather(context.rewards(), context.rollouts(), context.strategy())
    return GroupSampler(
        rollouts=rollouts,
        rewards=rewards,
        weights=context.weights,
        sampling=context.sampling if sampling is None else sampling_of(sampling),
        strategy=strategy,
        seed=derive_seed(context.cfg.seed, "stage", context.name),
        stall_s=context.cfg.run.stall_s,
        missing_limits=context.missing_limits,
    )
