"""An objective of one's own, from scratch: SPO, a quadratic wall around ratio 1 in place of PPO's clip."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from raylign.batch import Batch
from raylign.contracts import LossTerms, Objective, TokenView
from raylign.objectives.aggregate import Aggregation, token_weights


class SPO(Objective):
    """l = -(r A - |A| (r - 1)^2 / (2 width)), r = pi / pi_sampler (arXiv:2401.16025); mean over all tokens."""

    corrects_staleness = True  # by r, whichever policy sampled: `staleness` above 0 is let through
    reuses_batches = True  # r is to what is in the batch, not to itself: several updates a step are let through

    @dataclass
    class Config:
        """Settings, as `objective.<name>=...` on the command line."""

        width: float = 0.2

    config: Config

    def prepare(self, batch: Batch) -> Batch:
        """Once on the whole batch: the weights carry the global normalisation."""
        return batch.with_streams(policy_weight=token_weights(batch, Aggregation.token))

    def terms(self, view: TokenView) -> LossTerms:
        """The loss of one micro-batch; its sum over micro-batches and ranks is the loss of the batch."""
        assert view.logprob is not None
        ratio, advantage = torch.exp(view.logprob - view["sampler_logprob"]), view["advantage"]
        loss = advantage.abs() * (ratio - 1) ** 2 / (2 * self.config.width) - ratio * advantage
        return LossTerms(components={"policy": torch.sum(view["policy_weight"] * loss)})
