"""The objective of reward models: which of two answers is better, and that neither is (Bradley-Terry with ties).

    L_diff = -log sigmoid(r_w - r_l - m)      mean over the batch's pairs
    L_same = -log sigmoid(m' - |r_1 - r_2|)   mean over the batch's ties
    J = L_diff + λ L_same

r is the score of a whole conversation, of the kind ``reward_model``. A pair is two rows of one group, the chosen answer
first; array ``tie`` is above 0 on both where neither is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from raylign.batch import Batch
from raylign.contracts import LossTerms, Objective, TokenView
from raylign.lazy import torch
from raylign.objectives.loss.pairs import by_row, pair_rows, sides


class TieSign(Enum):
    """The sign of the loss of a tie.

    `corrected`: -log sigmoid(m' - |r_1 - r_2|), least where the scores are equal. `printed`: -log sigmoid(|r_1 - r_2|),
    as arXiv:2602.11661 prints it; it drives the two scores of a tie apart.
    """

    corrected = "corrected"
    printed = "printed"


class BradleyTerry(Objective):
    """Components `difference` = L_diff and `tie` = λ L_same, each a mean over its own kind of pairs in the batch.

    Metrics: of pairs `accuracy` 1[r_w > r_l], `gap` r_w - r_l, `absolute_gap`, `score/chosen`, `score/rejected`; of
    ties `tie_gap` |r_1 - r_2|; `share/ties` of all. Those of a kind that a batch lacks are left out.
    """

    whole_groups = True  # both rows of a pair must be in one micro-batch

    @dataclass
    class Config:
        """Every choice that changes the number. λ, m, m' and the sign are [inferred] for the paper above."""

        tie_weight: float = 0.5  # λ
        pair_margin: float = 0.0  # m, in units of r
        tie_margin: float = 0.0  # m'
        tie_sign: TieSign = TieSign.corrected

        def __post_init__(self) -> None:
            for name in ("tie_weight", "pair_margin", "tie_margin"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name}={getattr(self, name)} must not be negative")
            if self.tie_sign is TieSign.printed and self.tie_margin:
                raise ValueError(f"tie_margin={self.tie_margin} does nothing with tie_sign=printed: set it to 0")

    config: Config

    def prepare(self, batch: Batch) -> Batch:
        """Stamp what every row must know of the whole batch.

        `pair_side`: 1 chosen, 0 rejected. `pair_tie`: 1 of a tie. `pair_share`: 1 / pairs of its kind; `pair_part`: 1 /
        all pairs. Raises ValueError when a group is not two rows, a row has several scores, or a tie only one row.
        """
        chosen, rejected = pair_rows(batch)
        tie, row = ties_of(batch), batch.row_of_token
        scores = np.bincount(row, np.asarray(batch["loss_mask"], np.float64), minlength=len(batch))
        if np.any(scores != 1):
            wrong = int(np.flatnonzero(scores != 1)[0])
            raise ValueError(f"row {wrong} has {int(scores[wrong])} scores, not one")
        if np.any(tie[chosen] != tie[rejected]):
            raise ValueError("a pair is a tie by one of its rows only")
        side, share = np.zeros(len(batch), np.int64), np.zeros(len(batch))
        side[chosen] = 1
        for kind in (True, False):
            share[tie == kind] = 2.0 / max(int(np.sum(tie == kind)), 1)
        return batch.with_streams(
            pair=batch.groups.astype(np.int64)[row],
            pair_side=side[row],
            pair_tie=tie.astype(np.float64)[row],
            pair_share=share[row],
            pair_part=np.full(batch.tokens, 1.0 / len(chosen)),
        )

    def terms(self, view: TokenView) -> LossTerms:
        """The loss of one micro-batch. Raises ValueError when a pair was split over micro-batches."""
        assert view.values is not None, "a Bradley-Terry loss needs the forward kind reward_model"
        scores = view.values.double().new_zeros(view.rows).scatter(0, view.segment, view.values.double())
        chosen, rejected = sides(by_row(view, "pair"), by_row(view, "pair_side"))
        tie = by_row(view, "pair_tie")[chosen] > 0
        share = by_row(view, "pair_share")[chosen]
        gap = scores[chosen] - scores[rejected]
        loss = share * self.loss(gap, tie)
        components = {"difference": loss[~tie].sum()} if bool((~tie).any()) else {}
        if bool(tie.any()):
            components["tie"] = self.config.tie_weight * loss[tie].sum()
        with torch.no_grad():
            metrics = gap_metrics(scores[chosen], scores[rejected], tie, share)
            metrics["share/ties"] = torch.sum(by_row(view, "pair_part")[chosen][tie])
        return LossTerms(components=components, metrics=metrics)

    def loss(self, gap: torch.Tensor, tie: torch.Tensor) -> torch.Tensor:
        """[P] loss of each pair, λ left out. gap: r of the first answer less that of the second."""
        config, log_sigmoid = self.config, torch.nn.functional.logsigmoid
        absolute = gap.abs()
        same = absolute if config.tie_sign is TieSign.printed else config.tie_margin - absolute
        return -torch.where(tie, log_sigmoid(same), log_sigmoid(gap - config.pair_margin))


def ties_of(batch: Batch) -> NDArray[np.bool_]:
    """[B] whether the row is of a tie; no row is where the batch does not say."""
    return np.asarray(batch.arrays.get("tie", np.zeros(len(batch))), np.float64) > 0


def gap_metrics(
    chosen: torch.Tensor, rejected: torch.Tensor, tie: torch.Tensor, share: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Additive metrics of some pairs, see `BradleyTerry`. share: [P] 1 / all pairs of its kind."""
    gap = chosen.detach() - rejected.detach()
    of_pairs = {
        "accuracy": (gap > 0).double(),
        "gap": gap,
        "absolute_gap": gap.abs(),
        "score/chosen": chosen.detach(),
        "score/rejected": rejected.detach(),
    }
    metrics: dict[str, torch.Tensor] = {}
    if bool((~tie).any()):  # absent is not zero: without such a pair there is no figure
        metrics |= {name: torch.sum((share * value)[~tie]) for name, value in of_pairs.items()}
    if bool(tie.any()):
        metrics["tie_gap"] = torch.sum((share * gap.abs())[tie])
    return metrics


def held_out_metrics(objective: BradleyTerry, batch: Batch, scores: NDArray[np.float64]) -> dict[str, float]:
    """The metrics of `BradleyTerry` over all pairs of a batch from the scores [B] of its rows, and by array ``domain``
    as ``<metric>/<domain>``.

    Also `loss`, and `tie_ratio` = tie_gap / absolute_gap: a model that only scales its scores down has both smaller.
    """
    metrics = _figures(objective, batch, scores)
    domains = batch.arrays.get("domain", np.full(len(batch), ""))
    for domain in sorted(set(domains.tolist()) - {""}):
        rows = np.flatnonzero(domains == domain)
        part = _figures(objective, batch.select(rows), scores[rows])
        kept = {name: part[name] for name in ("accuracy", "gap", "tie_gap", "tie_ratio") if name in part}
        metrics |= {f"{name}/{domain}": value for name, value in kept.items()}
    return metrics


def _figures(objective: BradleyTerry, batch: Batch, scores: NDArray[np.float64]) -> dict[str, float]:
    first, second = pair_rows(batch)
    tie = torch.from_numpy(ties_of(batch)[first])
    chosen, rejected = torch.from_numpy(scores[first]), torch.from_numpy(scores[second])
    counts = torch.where(tie, tie.sum(), (~tie).sum()).double()
    loss = objective.loss(chosen - rejected, tie) / counts
    metrics: Mapping[str, torch.Tensor] = gap_metrics(chosen, rejected, tie, 1 / counts)
    figures = {name: float(value) for name, value in metrics.items()}
    figures["loss"] = float(loss[~tie].sum() + objective.config.tie_weight * loss[tie].sum())
    figures["share/ties"] = float(tie.double().mean())
    if figures.get("absolute_gap") and "tie_gap" in figures:
        figures["tie_ratio"] = figures["tie_gap"] / figures["absolute_gap"]
    return figures
