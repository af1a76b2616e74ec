from dataclasses import dataclass

import numpy as np

from raylign.objectives.advantage.base import GroupAdvantage


class OverMean(GroupAdvantage):
    """A_i = (r_i - mean(r)) / mean(r)^power, 0 for a group without success."""

    @dataclass
    class Config(GroupAdvantage.Config):
        power: float = 0.5

    def of_group(self, rewards):
        mean = rewards.mean()
        return (rewards - mean) / mean**self.config.power if mean > 0 else np.zeros_like(rewards)
