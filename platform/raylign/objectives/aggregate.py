"""How token losses become one number: weights that carry the normalisation of the whole mini-batch.

The weights are stamped once on the whole batch, so ``sum(weight * loss)`` over any split into micro-batches, packs or
ranks is the same loss. Peers that normalise inside a micro-batch get a loss that depends on the split.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from raylign.batch import Batch
from raylign.records import Float32s


class Aggregation(Enum):
    """Normalisation of a loss over the loss tokens o_{i,t} of B rows.

    `token`: sum / N, N loss tokens of the batch (DAPO, arXiv:2503.14476, eq. 8; TRL `dapo`, verl `token-mean`).
    `sequence`: mean over rows of the row's token mean (GRPO, arXiv:2402.03300, eq. 3; verl `seq-mean-token-mean`).
    `constant`: sum / (B * constant_length) (Dr. GRPO, arXiv:2503.20783; TRL `dr_grpo`). The length is a setting, never
    the width of whatever batch happens to come.
    """

    token = "token"
    sequence = "sequence"
    constant = "constant"


def check_aggregation(mode: Aggregation, constant_length: int) -> None:
    """Raise ValueError when `constant` has no length to divide by, or another mode has one that does nothing."""
    if mode is Aggregation.constant and constant_length < 1:
        raise ValueError("aggregation=constant divides by constant_length: set it, usually to the longest response")
    if mode is not Aggregation.constant and constant_length != 0:
        raise ValueError(
            f"constant_length does nothing with aggregation={mode.name}: set aggregation=constant or drop it"
        )


def counted_tokens(batch: Batch) -> NDArray[np.bool_]:
    """[N] the loss tokens of rows that count: those whose `weight` is not zero on all of their loss tokens.

    A dropped sample or a masked truncated one has zero weight everywhere, so it leaves numerators and counts alike.
    """
    mask = np.asarray(batch["loss_mask"], bool)
    live = np.bincount(batch.row_of_token[mask & (batch["weight"] != 0)], minlength=len(batch)) > 0
    return mask & live[batch.row_of_token]


def mean_weights(batch: Batch, mode: Aggregation = Aggregation.token, constant_length: int = 0) -> Float32s:
    """[N] normalisation alone, without the `weight` stream: 0 on tokens that do not count, so all 0 when none does."""
    counted = counted_tokens(batch)
    lengths = np.bincount(batch.row_of_token[counted], minlength=len(batch))
    rows, tokens = int(np.count_nonzero(lengths)), int(lengths.sum())
    if not tokens:
        return np.zeros(batch.tokens, np.float32)
    if mode is Aggregation.token:
        share = np.full(len(batch), 1.0 / tokens)
    elif mode is Aggregation.sequence:
        share = 1.0 / (rows * np.maximum(lengths, 1))
    else:
        share = np.full(len(batch), 1.0 / (rows * constant_length))
    return (share[batch.row_of_token] * counted).astype(np.float32)


def token_weights(batch: Batch, mode: Aggregation, constant_length: int = 0) -> Float32s:
    """[N] normalisation times the `weight` stream; 0 off the loss mask.

    A zero weight on single tokens of a live row acts on the numerator only: these tokens stay in N.
    """
    return mean_weights(batch, mode, constant_length) * np.asarray(batch["weight"], np.float32)
