"""Supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from raylign.batch import Batch
from raylign.contracts import LossTerms, Objective, TokenView
from raylign.lazy import torch
from raylign.objectives.aggregate import Aggregation, check_aggregation, mean_weights, token_weights


class CrossEntropy(Objective):
    """Component `ce` = -sum_t weight_t log pi(token_t), weight_t from `aggregation` and the `weight` stream.

    Metrics: `nll`, mean over counted tokens whatever the aggregation, and `entropy`.
    """

    @dataclass
    class Config:
        """Every choice that changes the number."""

        aggregation: Aggregation = Aggregation.token
        constant_length: int = 0

        def __post_init__(self) -> None:
            check_aggregation(self.aggregation, self.constant_length)

    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    def prepare(self, batch: Batch) -> Batch:
        """Stamp `ce_weight` and `mean_weight`."""
        return batch.with_streams(
            ce_weight=token_weights(batch, self.config.aggregation, self.config.constant_length),
            mean_weight=mean_weights(batch),
        )

    def terms(self, view: TokenView) -> LossTerms:
        """The loss of one micro-batch."""
        assert view.logprob is not None, "cross-entropy needs the forward kind causal_lm"
        weight = view["mean_weight"]
        metrics = {"nll": -torch.sum(weight * view.logprob.detach())}
        if view.entropy is not None:
            metrics["entropy"] = torch.sum(weight * view.entropy.detach())
        return LossTerms(components={"ce": -torch.sum(view["ce_weight"] * view.logprob)}, metrics=metrics)
