"""Samples of prompts with their scores, of which nothing is learned: for evaluations, and for sets that are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raylign.contracts import RewardPools, RolloutPool, RolloutTask, Sampling, StrategySpec
from raylign.loop.collect import collect
from raylign.loop.reward_metrics import refuse_missing
from raylign.loop.scoring import scored
from raylign.objectives.shaping import WeightedSum
from raylign.records import Group, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSampler:
    """Who samples, who scores, and how. A score is the weighted sum of the stage's rewards."""

    rollouts: RolloutPool
    rewards: RewardPools
    weights: Mapping[str, float]  # of the rewards; none: nothing is scored
    sampling: Sampling
    seed: int
    strategy: StrategySpec | None = None  # None: the run's
    stall_s: float = 1800.0
    missing_limits: Mapping[str, float] = field(default_factory=dict)  # see `refuse_missing`

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
