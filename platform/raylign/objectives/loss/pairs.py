"""Pairs as rows of a batch: which rows belong together, and their answers' log-probs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from raylign.batch import Batch
from raylign.contracts import TokenView
from raylign.lazy import torch

Float64s = NDArray[np.float64]


class SequenceLogprob(Enum):
    """How the token log-probs of an answer become one number. β, γ and τ are read in its unit.

    `sum`: nats per answer. `mean`: nats per token. `mean_without_end`: the mean of all tokens but the last, as HyPO's
    released averaging mode has it (the last one is the end token unless the answer was cut).
    """

    sum = "sum"
    mean = "mean"
    mean_without_end = "mean_without_end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """P pairs as their answers' log-probs. `ref_*` are None where no reference was asked.

    Example: ``Pairs(chosen=t([-4.]), rejected=t([-6.]), ref_chosen=t([-5.]), ref_rejected=t([-4.]))`` is pessimistic
    (Δref = -1) and rightly ordered by the policy (Δθ = 2).
    """

    chosen: torch.Tensor  # [P]
    rejected: torch.Tensor  # [P]
    ref_chosen: torch.Tensor | None = None  # [P]
    ref_rejected: torch.Tensor | None = None  # [P]

    @property
    def margin(self) -> torch.Tensor:
        """[P] Δθ."""
        return self.chosen - self.rejected

    @property
    def ref_margin(self) -> torch.Tensor | None:
        """[P] Δref."""
        if self.ref_chosen is None or self.ref_rejected is None:
            return None
        return self.ref_chosen - self.ref_rejected


def pair_rows(batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers of the chosen and of the rejected answers, pair by pair.

    Raises ValueError when a group is not exactly two rows, or a row has no loss token (it would leave its pair).
    """
    order = np.argsort(batch.groups, kind="stable")
    groups, counts = np.unique(batch.groups, return_counts=True)
    if not len(groups):
        raise ValueError("the batch holds no pair")
    if np.any(counts != 2):
        wrong = int(np.flatnonzero(counts != 2)[0])
        raise ValueError(f"group {int(groups[wrong])} has {int(counts[wrong])} rows; a pair is chosen, then rejected")
    tokens = np.bincount(batch.row_of_token, np.asarray(batch["loss_mask"], np.float64), minlength=len(batch))
    if np.any(tokens == 0):
        raise ValueError(f"row {int(np.flatnonzero(tokens == 0)[0])} has no answer token")
    return order[0::2].astype(np.int64), order[1::2].astype(np.int64)


def answer_weights(batch: Batch, mode: SequenceLogprob) -> Float64s:
    """[N] factor of each token's log-prob in its answer's: 1 for a sum, 1 / length for a mean, 0 off the loss mask."""
    mask = np.array(batch["loss_mask"], bool)
    row = batch.row_of_token
    if mode is SequenceLogprob.mean_without_end:
        last = np.zeros(len(batch), np.int64)
        np.maximum.at(last, row[mask], np.flatnonzero(mask))
        lengths = np.bincount(row, mask, minlength=len(batch))
        mask[last[lengths > 1]] = False  # an answer of one token keeps it
    if mode is SequenceLogprob.sum:
        return mask.astype(np.float64)
    lengths = np.maximum(np.bincount(row, mask, minlength=len(batch)), 1)
    return np.asarray(mask / lengths[row], np.float64)


def by_row(view: TokenView, name: str) -> torch.Tensor:
    """[rows] a stream that is the same on every token of a row."""
    stream = view[name]
    return stream.new_zeros(view.rows).scatter(0, view.segment, stream)


def sides(pair: torch.Tensor, side: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Row numbers of the chosen and the rejected answers within the micro-batch, in the same order of pairs."""
    order = torch.argsort(pair * 2 + (1 - side))
    chosen, rejected = order[0::2], order[1::2]
    whole = len(pair) % 2 == 0 and bool(torch.all(pair[chosen] == pair[rejected]))
    if not whole or not bool(torch.all(side[chosen] > side[rejected])):
        raise ValueError("a pair was split over micro-batches; the objective's whole_groups was not respected")
    return chosen, rejected
