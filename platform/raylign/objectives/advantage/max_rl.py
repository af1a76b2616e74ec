"""MaxRL (arXiv:2602.02710): the gradient of the log of the pass rate, to the order that a group's size allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raylign.objectives.advantage.base import Float64s, GroupAdvantage, KlOrder


class MaxRL(GroupAdvantage):
    """A_i = (r_i - mean(r)) / mean(r), and 0 for a group without success (arXiv:2602.02710, Algorithm 1).

    With rewards of 0 or 1, K successes in G samples: (sum_i A_i grad log pi_i) / G is the mean over the successes minus
    the mean over all, in expectation the gradient of -sum_{k < G} (1 - p)^k / k, which tends to that of log p.
    A mean of rewards below 0 is no rate of success: such rewards are refused.
    """

    @dataclass
    class Config(GroupAdvantage.Config):
        """KL is charged after the formula: a reward less a penalty is no success."""

        kl_order: KlOrder = KlOrder.after_baseline

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.kl_coef != 0 and self.kl_order is KlOrder.before_baseline:
                raise ValueError("MaxRL divides by the mean reward, which KL would lower: set kl_order=after_baseline")

    def of_group(self, rewards: Float64s) -> Float64s:
        """(r - mean) / mean; 0 without success. Raises ValueError on a reward below 0."""
        if rewards.min() < 0:
            raise ValueError(f"MaxRL needs rewards of 0 or more, not {rewards.min():g}: drop penalties, or shift them")
        mean = rewards.mean()
        return (rewards - mean) / mean if mean > 0 else np.zeros_like(rewards)
