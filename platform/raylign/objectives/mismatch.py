"""Correction for the gap between the engine that sampled and the learner that trains, at equal weights.

w = exp(log pi_learner - log pi_sampler) per token, without gradient: the importance weight that the sampler's kernels,
precision and staleness call for. It multiplies the policy loss of a token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from raylign.lazy import torch


class Mismatch(Enum):
    """Treatment of w. P is the product of w over the row's loss tokens.

    `truncate`: min(w, high) per token (truncated importance sampling, Yao et al. 2025).
    `mask`: w where low <= w <= high, else 0, per token (IcePop, Ling team 2025; TRL `token_mask`).
    `sequence_truncate`: min(P, high) on all tokens of the row (TRL `sequence_truncate`).
    `sequence_mask`: P where low <= P <= high, else 0, on all tokens of the row (TRL `sequence_mask`, its default).
    """

    none = "none"
    truncate = "truncate"
    mask = "mask"
    sequence_truncate = "sequence_truncate"
    sequence_mask = "sequence_mask"


@dataclass
class MismatchConfig:
    """Bounds of the correction. `low` matters to the masks only.

    Masks act on the numerator: a masked token still counts in the normalisation, so that masking many tokens shrinks
    the step and does not amplify the few that are left (and the loss does not depend on the split into micro-batches).
    """

    mode: Mismatch = Mismatch.none
    low: float = 0.0
    high: float = 2.0
    veto: float = 0.0  # a row with any token of w below this gets factor 0 on all its tokens; 0: no veto

    def __post_init__(self) -> None:
        if self.veto < 0 or (self.veto and self.mode is Mismatch.none):
            raise ValueError(f"mismatch.veto={self.veto} must be 0 or more, and needs a mode other than none")
        if not 0 <= self.low < self.high:
            raise ValueError(f"mismatch bounds are low={self.low}, high={self.high}: set 0 <= low < high")


def row_sums(values: torch.Tensor, segment: torch.Tensor, rows: int) -> torch.Tensor:
    """[rows] sum of [K] values by row."""
    return torch.zeros(rows, dtype=values.dtype, device=values.device).index_add(0, segment, values)


def mismatch_weights(
    config: MismatchConfig, learner: torch.Tensor, sampler: torch.Tensor, segment: torch.Tensor, rows: int
) -> torch.Tensor:
    """[K] factors on the policy loss, detached. `learner`, `sampler`: [K] log-probs of the sampled ids."""
    gap = (learner - sampler).detach()
    if config.mode is Mismatch.none:
        return torch.ones_like(gap)
    by_row = config.mode in (Mismatch.sequence_truncate, Mismatch.sequence_mask)
    weight = torch.exp(row_sums(gap, segment, rows)[segment] if by_row else gap)
    if config.mode in (Mismatch.truncate, Mismatch.sequence_truncate):
        weight = weight.clamp(max=config.high)
    else:
        keep = (weight >= config.low) & (weight <= config.high)
        weight = torch.where(keep, weight, torch.zeros_like(weight))
    if config.veto:
        caught = row_sums((gap < math.log(config.veto)).to(gap.dtype), segment, rows) > 0
        weight = weight.masked_fill(caught[segment], 0.0)
    return weight
