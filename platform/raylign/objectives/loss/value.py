"""The critic's loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raylign.batch import Batch
from raylign.contracts import LossTerms, Objective, TokenView
from raylign.lazy import torch
from raylign.objectives.aggregate import Aggregation, check_aggregation, counted_tokens, mean_weights


class ValueLoss(Objective):
    """coefficient * sum_t c_t 0.5 max((v - R)^2, (clip(v, v_old - clip, v_old + clip) - R)^2) (PPO2, arXiv:1707.06347).

    R is the stream `return`, v_old the stream `value`; c_t is `aggregation` over counted tokens. clip=null drops the
    second term. Metrics: `value_clip` share of tokens whose gradient the clip removed, `value_error` mean squared
    error, `explained_variance` 1 - mean (v - R)^2 / Var(R), 0 when the returns do not vary.
    """

    @dataclass
    class Config:
        """Every choice that changes the number."""

        clip: float | None = 0.2
        coefficient: float = 1.0
        aggregation: Aggregation = Aggregation.token
        constant_length: int = 0

        def __post_init__(self) -> None:
            check_aggregation(self.aggregation, self.constant_length)
            if self.clip is not None and self.clip <= 0:
                raise ValueError(f"clip={self.clip} must be positive, or null for no clipping")

    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def needs(self) -> frozenset[str]:
        """`return`, and `value` when clipping."""
        return frozenset({"return"} | ({"value"} if self.config.clip is not None else set()))

    def prepare(self, batch: Batch) -> Batch:
        """Stamp `value_weight`, `mean_weight` and `variance_weight` (mean_weight / Var(R) over counted tokens)."""
        missing = sorted(name for name in self.needs if name not in batch)
        if missing:
            raise ValueError(f"the batch lacks the streams {', '.join(missing)} that this objective needs")
        mean = mean_weights(batch)
        returns = np.asarray(batch["return"], np.float64)[counted_tokens(batch)]
        variance = float(returns.var()) if len(returns) else 0.0
        return batch.with_streams(
            value_weight=mean_weights(batch, self.config.aggregation, self.config.constant_length),
            mean_weight=mean,
            variance_weight=(mean / variance if variance > 0 else np.zeros_like(mean)).astype(np.float32),
        )

    def terms(self, view: TokenView) -> LossTerms:
        """The loss of one micro-batch."""
        assert view.values is not None, "a value loss needs the forward kind scalar_head"
        value, target, clip = view.values, view["return"], self.config.clip
        error = square = (value - target) ** 2
        if clip is not None:
            near = view["value"] + (value - view["value"]).clamp(-clip, clip)
            error = torch.maximum(square, (near - target) ** 2)
        loss = self.config.coefficient * torch.sum(view["value_weight"] * 0.5 * error)
        clipped = (error > square).to(square.dtype)
        weight, variance_weight, square = view["mean_weight"], view["variance_weight"], square.detach()
        explained = torch.where(variance_weight > 0, weight - variance_weight * square, torch.zeros_like(square))
        metrics = {
            "value_clip": torch.sum(weight * clipped),
            "value_error": torch.sum(weight * square),
            "explained_variance": torch.sum(explained),
        }
        return LossTerms(components={"value": loss}, metrics=metrics)
