"""Advantages of a sample over the others of its group: GRPO, Dr. GRPO, RLOO."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from raylign.objectives.advantage.base import Float64s, GroupAdvantage, mean, rewards_differ


class Std(Enum):
    """The standard deviation to divide by.

    `sample`: of the group with G - 1 (TRL, verl). `population`: with G. `leave_one_out`: sample std of the other G - 1
    rewards; where the others do not vary the deviation is left undivided, as there is no scale to be had from them.
    """

    sample = "sample"
    population = "population"
    leave_one_out = "leave_one_out"


class GRPO(GroupAdvantage):
    """A_i = (r_i - mean(r)) / (std(r) + epsilon) (DeepSeekMath, arXiv:2402.03300, section 4.1.2), also of
    DAPO, GSPO and CISPO.
    """

    @dataclass
    class Config(GroupAdvantage.Config):
        """The standard deviation, and epsilon added to it."""

        std: Std = Std.sample
        epsilon: float = 1e-6  # TRL 1e-4, verl 1e-6

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.epsilon < 0:
                raise ValueError(f"epsilon is {self.epsilon}, set it to 0 or more")

    config: Config

    def of_group(self, rewards: Float64s) -> Float64s:
        """(r - mean) / (std + epsilon)."""
        std, epsilon = self.config.std, self.config.epsilon
        if std is Std.leave_one_out:
            return (rewards - mean(rewards)) / _scale_of_others(rewards, epsilon)
        return (rewards - mean(rewards)) / (float(rewards.std(ddof=1 if std is Std.sample else 0)) + epsilon)


class DrGRPO(GroupAdvantage):
    """A_i = r_i - mean(r) (Dr. GRPO, arXiv:2503.20783, section 3.2): GRPO without the bias of its std."""

    def of_group(self, rewards: Float64s) -> Float64s:
        """r - mean."""
        return rewards - mean(rewards)


class RLOO(GroupAdvantage):
    """A_i = r_i - mean_{j != i}(r_j) (arXiv:2402.14740)."""

    def of_group(self, rewards: Float64s) -> Float64s:
        """r minus the mean of the others, which is (r - mean) G / (G - 1)."""
        return (rewards - mean(rewards)) * (len(rewards) / (len(rewards) - 1))


def _scale_of_others(rewards: Float64s, epsilon: float) -> Float64s:
    """[G] sample std of the other G - 1 rewards plus epsilon; 1 where they are all equal."""
    scale = np.ones(len(rewards))
    for index in range(len(rewards)):
        others = np.delete(rewards, index)
        if rewards_differ(others):
            scale[index] = others.std(ddof=1) + epsilon
    return scale
