"""An advantage of one's own: deviations over a power of the mean reward, MaxRL's at 1 and Dr. GRPO's at 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raylign.objectives.advantage.base import Float64s, GroupAdvantage


class OverMean(GroupAdvantage):
    """A_i = (r_i - mean(r)) / mean(r)^power, and 0 for a group without success: rare successes weigh more."""

    @dataclass
    class Config(GroupAdvantage.Config):
        """Settings, as `advantage.<name>=...` on the command line."""

        power: float = 0.5

    config: Config

    def of_group(self, rewards: Float64s) -> Float64s:
        """[G] rewards -> [G] advantages; missing rewards and groups of equal ones never come here."""
        mean = rewards.mean()
        return (rewards - mean) / mean**self.config.power if mean > 0 else np.zeros_like(rewards)
