"""Held-out evaluation: the policy that the engines hold, on prompts that it is not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from raylign.collect import collect, reward_metrics
from raylign.contracts import RewardPools, RewardShaper, RolloutPool, RolloutTask, Sampling
from raylign.records import Group, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Metrics of one evaluation and the groups behind them.

    ``eval/score`` is the mean score, ``eval/best`` the mean over prompts of the best of `samples`, and
    ``eval/prompts`` the number of prompts with at least one measured answer.
    """

    metrics: dict[str, float]
    groups: list[Group]

    @property
    def score(self) -> float:
        """Mean score; NaN when nothing could be measured."""
        return self.metrics["eval/score"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """What an evaluation needs besides prompts.

    The shaper must be one without state: an evaluation must not move the statistics of training.
    """

    rollouts: RolloutPool
    rewards: RewardPools
    shaper: RewardShaper
    sampling: Sampling
    seed: int
    stall_s: float = 1800.0

    async def run(
        self, prompts: Sequence[Prompt], samples: int = 1, greedy: bool = True, temperature: float | None = None
    ) -> Evaluation:
        """Sample every prompt `samples` times and score it; a strategy that searches does so in training only.

        greedy: temperature 0 (then samples should be 1). temperature: of sampling, None: the run's.
        """
        sampling = self.sampling if temperature is None else replace(self.sampling, temperature=temperature)
        tasks = [
            RolloutTask(prompt=prompt, n=samples, sampling=sampling, run_seed=self.seed, greedy=greedy, training=False)
            for prompt in prompts
        ]
        found = await collect(tasks, self.rollouts, self.rewards, self.stall_s)
        groups = self.shaper.shape(found.groups)
        scored = [[score for score in group.scores if score is not None] for group in groups]
        measured = [scores for scores in scored if scores]
        metrics = {f"eval/{name}": value for name, value in reward_metrics(groups).items()}
        metrics |= {
            "eval/score": float(np.mean([np.mean(scores) for scores in measured])) if measured else float("nan"),
            "eval/best": float(np.mean([max(scores) for scores in measured])) if measured else float("nan"),
            "eval/prompts": float(len(measured)),
        }
        return Evaluation(metrics=metrics, groups=groups)
