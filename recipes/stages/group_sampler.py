"""Samples of prompts with their scores, for stages that write down what was sampled."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raylign.actors.judge.chat import ChatModel
from raylign.actors.judge.rollouts import ChatRollouts
from raylign.actors.judge.served import Served
from raylign.config.sampling import sampling_of
from raylign.config.schema import SamplingConfig
from raylign.contracts import RewardPools, RolloutPool, RolloutTask, Sampling, StrategySpec
from raylign.loop.collect import collect
from raylign.loop.reward_metrics import refuse_missing
from raylign.loop.scoring import scored
from raylign.objectives.shaping import WeightedSum
from raylign.recipes.stages.context import RunContext
from raylign.records import Group, Prompt, derive_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSampler:
    """Who samples, who scores, and how. A score is the weighted sum of the stage's rewards."""

    rollouts: RolloutPool
    rewards: RewardPools
    weights: Mapping[str, float]  # of the rewards; none: nothing is scored
    sampling: Sampling
    strategy: StrategySpec | None
    seed: int
    stall_s: float
    missing_limits: Mapping[str, float]

    @property
    def scored(self) -> bool:
        """Whether there is a reward that counts."""
        return any(self.weights.values())

    async def groups(self, prompts: Sequence[Prompt], samples: int, greedy: bool) -> list[Group]:
        """The samples of every prompt, each with a score, or None where a reward is missing.

        Raises RewardError when too many samples failed, or too many values of a reward are missing.
        """
        tasks = [
            RolloutTask(
                prompt=prompt,
                n=samples,
                sampling=self.sampling,
                run_seed=self.seed,
                greedy=greedy,
                strategy=self.strategy,
            )
            for prompt in prompts
        ]
        collected = await collect(tasks, self.rollouts, self.rewards, self.stall_s)
        refuse_missing(collected.groups, self.missing_limits)
        return scored(WeightedSum(WeightedSum.Config(), self.weights, self.sampling.max_tokens), collected.groups)


def served(name: str) -> ChatModel:
    """The model behind a name under `judges`."""
    return Served(Served.Config(name=name))


async def group_sampler(context: RunContext, sampling: SamplingConfig | None, by: str = "") -> GroupSampler:
    """The sampler of the present stage; its actors are started. Its seeds are the stage's own.

    sampling: None takes the run's; by: a name under `judges`, which answers in place of the engines.
    """
    strategy: StrategySpec | None = None
    rollouts: RolloutPool
    if by:
        rewards, rollouts = await context.rewards(), ChatRollouts(served(by))  # judges come with the rewards
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
