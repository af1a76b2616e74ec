"""REINFORCE++ (arXiv:2501.03262): advantages normalised over the whole batch instead of within a group."""

from __future__ import annotations

from dataclasses import dataclass

from raylign.objectives.advantage.base import Float64s, GroupAdvantage, KlOrder, KlShare, mean
from raylign.objectives.whiten import Whiten


class ReinforcePlusPlus(GroupAdvantage):
    """A_{i,t} = r_i - kl_coef sum_{s >= t} KL_s, whitened over all action tokens of the batch (eq. 8).

    No group is compared: groups of one are welcome, and equal rewards are not 0 before the whitening.
    """

    compares_samples = False

    @dataclass
    class Config(GroupAdvantage.Config):
        """The paper's places for KL and normalisation."""

        kl_share: KlShare = KlShare.to_go
        kl_order: KlOrder = KlOrder.after_baseline
        whiten: Whiten = Whiten.batch

    def of_group(self, rewards: Float64s) -> Float64s:
        """The rewards as they are: there is no baseline."""
        return rewards


class ReinforcePlusPlusBaseline(GroupAdvantage):
    """A_i = r_i - mean(r), whitened over all action tokens of the batch (REINFORCE++-baseline)."""

    @dataclass
    class Config(GroupAdvantage.Config):
        """The paper's normalisation."""

        whiten: Whiten = Whiten.batch

    def of_group(self, rewards: Float64s) -> Float64s:
        """r - mean."""
        return rewards - mean(rewards)
