"""Preference losses on pairs: DPO, HyPO, its smooth form, and the reference-free margin, with or without averaging.

A pair is two rows of one group: the chosen answer first, the rejected one second, after one prompt. With s(y) the sum
(or mean) of the answer's token log-probs, the margins are Δθ = s_θ(chosen) - s_θ(rejected) and Δref likewise under the
frozen reference. The loss of a pair is -log sigmoid(β (Δθ - D)), where D, the margin that the policy must beat, is a
transform of Δref; see `ReferenceMargin`. Δref is a constant; nothing is clipped on the policy's side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from raylign.columns import Columns
from raylign.contracts import LossTerms, Objective, TokenView
from raylign.objectives.mismatch import row_sums

Float64s = NDArray[np.float64]
CLASSES = {"optimistic": 1, "neutral": 0, "pessimistic": -1}  # by the sign of Δref


class ReferenceMargin(Enum):
    """D, the margin that the policy must beat.

    `dpo`: Δref (arXiv:2305.18290, eq. 7).
    `hypo`: max(Δref, γ) (HyPO, arXiv:2602.11902): a reference that prefers the rejected answer counts as neutral.
    `hypo_smooth`: γ + τ softplus((Δref - γ) / τ), the released recipes' form; τ <= 0 is the hard maximum, as there.
    `none`: γ, whatever the reference says; with logprob=mean that is SimPO (arXiv:2405.14734) with target margin β γ.
    """

    dpo = "dpo"
    hypo = "hypo"
    hypo_smooth = "hypo_smooth"
    none = "none"


class SequenceLogprob(Enum):
    """How the token log-probs of an answer become one number. β, γ and τ are read in its unit.

    `sum`: nats per answer. `mean`: nats per token. `mean_without_end`: the mean of all tokens but the last, as HyPO's
    released averaging mode has it (the last one is the end token unless the answer was cut).
    """

    sum = "sum"
    mean = "mean"
    mean_without_end = "mean_without_end"


class PairLoss(Enum):
    """The loss of a pair, with h = Δθ - D.

    `sigmoid`: -log sigmoid(β h). `squared`: (h - 1 / (2 β))² (IPO, arXiv:2310.12036, eq. 17).
    """

    sigmoid = "sigmoid"
    squared = "squared"


def target_margin(mode: ReferenceMargin, ref_margin: Tensor, gamma: float = 0.0, tau: float = 0.0) -> Tensor:
    """D of each pair, in the shape of `ref_margin`.

    The softplus is written as max + τ log1p(exp(-|.| / τ)): exact for γ = -inf, and no overflow for a tiny τ.
    """
    if mode is ReferenceMargin.dpo:
        return ref_margin
    if mode is ReferenceMargin.none:
        return torch.full_like(ref_margin, gamma)
    hard = ref_margin.clamp(min=gamma)
    if mode is ReferenceMargin.hypo or tau <= 0:
        return hard
    return hard + tau * torch.log1p(torch.exp(-torch.abs(ref_margin - gamma) / tau))


def pair_loss(kind: PairLoss, margin: Tensor, target: Tensor, beta: float) -> Tensor:
    """[P] loss of each pair; `margin` (Δθ) carries gradient, `target` (D) does not."""
    if kind is PairLoss.sigmoid:
        return -logsigmoid(beta * (margin - target))
    return (margin - target - 1 / (2 * beta)) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """P pairs as their answers' log-probs. `ref_*` are None where no reference was asked.

    Example: ``Pairs(chosen=t([-4.]), rejected=t([-6.]), ref_chosen=t([-5.]), ref_rejected=t([-4.]))`` is pessimistic
    (Δref = -1) and rightly ordered by the policy (Δθ = 2).
    """

    chosen: Tensor  # [P]
    rejected: Tensor  # [P]
    ref_chosen: Tensor | None = None  # [P]
    ref_rejected: Tensor | None = None  # [P]

    @property
    def margin(self) -> Tensor:
        """[P] Δθ."""
        return self.chosen - self.rejected

    @property
    def ref_margin(self) -> Tensor | None:
        """[P] Δref."""
        if self.ref_chosen is None or self.ref_rejected is None:
            return None
        return self.ref_chosen - self.ref_rejected


class PreferenceLoss(Objective):
    """Component `preference` = mean over the batch's pairs of the pair loss; see the module's docstring.

    The defaults are HyPO's released recipe: β .1, softplus with γ 0 and τ .1, summed log-probs.

    Metrics are means over pairs, those ending in a class over the pairs of that class (left out when there is none):
    `margin` Δθ, `ref_margin` Δref, `target_margin` D, `agreement` 1[Δθ > 0], `relative_agreement` 1[Δθ > Δref],
    `gradient_weight` sigmoid(-β (Δθ - D)), each also by class; `share/<class>`; `logprob/chosen|rejected` and their
    distance to the reference's, `displacement/chosen|rejected` (likelihood displacement); `length/chosen|rejected` in
    tokens; `rewards/chosen|rejected|margin|accuracy`, HyPO's implicit rewards: the gap D - Δref is split evenly over
    the reference's two log-probs, so the margin is β (Δθ - D) and the accuracy 1[Δθ > D]. Agreement is the figure to
    judge a policy by: at inference there is no reference.
    """

    whole_groups = True  # both rows of a pair must be in one micro-batch

    @dataclass
    class Config:
        """Every choice that changes the number."""

        beta: float = 0.1
        reference_margin: ReferenceMargin = ReferenceMargin.hypo_smooth
        gamma: float = 0.0  # floor of D; D itself for reference_margin=none
        tau: float = 0.1  # softness of reference_margin=hypo_smooth
        logprob: SequenceLogprob = SequenceLogprob.sum
        loss: PairLoss = PairLoss.sigmoid
        classify: bool = True  # reference_margin=none too asks the reference, for the metrics by class

        def __post_init__(self) -> None:
            if not self.beta > 0:
                raise ValueError(f"beta={self.beta} must be positive")
            if self.reference_margin is ReferenceMargin.dpo and self.gamma != 0:
                raise ValueError(f"gamma={self.gamma} does nothing with reference_margin=dpo: set it to 0")
            if math.isnan(self.gamma) or self.gamma == math.inf:
                raise ValueError(f"gamma={self.gamma} must be a number, or -inf for no floor")
            if self.reference_margin is ReferenceMargin.none and math.isinf(self.gamma):
                raise ValueError("gamma is the target margin of reference_margin=none and must be finite")

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def needs(self) -> frozenset[str]:
        """`ref_logprob`, unless neither the loss nor a metric asks the reference."""
        uses = self.config.reference_margin is not ReferenceMargin.none or self.config.classify
        return frozenset({"ref_logprob"} if uses else ())

    @property
    def needs_entropy(self) -> bool:
        """The entropy plays no part."""
        return False

    def prepare(self, batch: Columns) -> Columns:
        """Stamp what every token must know of its row and of the whole batch.

        `answer_weight`: factor of its log-prob in s(y). `pair_side`: 1 chosen, 0 rejected. `pair_share`: 1 / pairs.
        With a reference `ref_answer`: s_ref(y), `class_share`: 1 / pairs of its class.
        Raises ValueError when a group is not two rows with an answer each, or the reference's stream is absent.
        """
        missing = sorted(name for name in self.needs if name not in batch)
        if missing:
            raise ValueError(f"the batch lacks the streams {', '.join(missing)} that this objective needs")
        chosen, rejected = pair_rows(batch)
        weight = answer_weights(batch, self.config.logprob)
        side = np.zeros(len(batch), np.int64)
        side[chosen] = 1
        row = batch.row_of_token
        streams: dict[str, NDArray[np.generic]] = {
            "answer_weight": weight,
            "pair": batch.groups.astype(np.int64)[row],
            "pair_side": side[row],
            "pair_share": np.full(batch.tokens, 1.0 / len(chosen)),
        }
        if self.needs:
            answer = np.bincount(row, weight * batch["ref_logprob"].astype(np.float64), minlength=len(batch))
            sign = np.sign(answer[chosen] - answer[rejected])
            share = np.zeros(len(batch))
            for value in CLASSES.values():
                share[chosen[sign == value]] = share[rejected[sign == value]] = 1.0 / max(int(np.sum(sign == value)), 1)
            streams |= {"ref_answer": answer[row], "class_share": share[row]}
        return batch.with_streams(**streams)

    def terms(self, view: TokenView) -> LossTerms:
        """The loss of one micro-batch. Raises ValueError when a pair was split over micro-batches."""
        assert view.logprob is not None, "a preference loss needs the forward kind causal_lm"
        # A difference of two sums of a thousand nats is compared with a tenth: float64 keeps its digits.
        answers = row_sums(view.logprob.double() * view["answer_weight"], view.segment, view.rows)
        chosen, rejected = _sides(_by_row(view, "pair"), _by_row(view, "pair_side"))
        reference = _by_row(view, "ref_answer") if self.needs else None
        pairs = Pairs(
            chosen=answers[chosen],
            rejected=answers[rejected],
            ref_chosen=None if reference is None else reference[chosen],
            ref_rejected=None if reference is None else reference[rejected],
        )
        share = _by_row(view, "pair_share")[chosen]
        loss = pair_loss(self.config.loss, pairs.margin, self.target(pairs), self.config.beta)
        lengths = row_sums(torch.ones_like(answers[view.segment]), view.segment, view.rows)
        with torch.no_grad():
            class_share = _by_row(view, "class_share")[chosen] if self.needs else None
            metrics = self.metrics(pairs, share, class_share)
            metrics["length/chosen"] = torch.sum(share * lengths[chosen])
            metrics["length/rejected"] = torch.sum(share * lengths[rejected])
        return LossTerms(components={"preference": torch.sum(share * loss)}, metrics=metrics)

    def target(self, pairs: Pairs) -> Tensor:
        """[P] D, without gradient."""
        config, ref_margin = self.config, pairs.ref_margin
        if ref_margin is None:
            ref_margin = torch.zeros_like(pairs.margin)
        return target_margin(config.reference_margin, ref_margin.detach(), config.gamma, config.tau).detach()

    def metrics(self, pairs: Pairs, share: Tensor, class_share: Tensor | None) -> dict[str, Tensor]:
        """Additive metrics of some pairs. share: [P] 1 / all pairs; class_share: [P] 1 / all pairs of its class."""
        margin, target, ref_margin = pairs.margin.detach(), self.target(pairs), pairs.ref_margin
        values = {
            "margin": margin,
            "agreement": (margin > 0).double(),
            "target_margin": target,
            "gradient_weight": torch.sigmoid(-self.config.beta * (margin - target)),
        }
        only_all = {"logprob/chosen": pairs.chosen.detach(), "logprob/rejected": pairs.rejected.detach()}
        if pairs.ref_chosen is None or pairs.ref_rejected is None or ref_margin is None or class_share is None:
            return {name: torch.sum(share * value) for name, value in (values | only_all).items()}
        values |= {"ref_margin": ref_margin, "relative_agreement": (margin > ref_margin).double()}
        only_all |= _implicit_rewards(pairs, target, self.config.beta)
        only_all["displacement/chosen"] = pairs.chosen.detach() - pairs.ref_chosen
        only_all["displacement/rejected"] = pairs.rejected.detach() - pairs.ref_rejected
        found = {name: torch.sum(share * value) for name, value in (values | only_all).items()}
        for name, sign in CLASSES.items():
            inside = torch.sign(ref_margin) == sign
            found[f"share/{name}"] = torch.sum(share * inside)
            if bool(inside.any()):  # absent is not zero: without such a pair there is no figure
                weight = torch.where(inside, class_share, torch.zeros_like(class_share))
                found |= {f"{metric}/{name}": torch.sum(weight * value) for metric, value in values.items()}
        return found


def held_out_metrics(objective: PreferenceLoss, batch: Columns, logprob: NDArray[np.float32]) -> dict[str, float]:
    """The metrics of `PreferenceLoss` over all pairs of a batch, from the policy's token log-probs [N].

    Also `loss` and `nll` (mean over the chosen answers' tokens). Class metrics need the stream `ref_logprob`.
    """
    chosen, rejected = pair_rows(batch)
    weight = answer_weights(batch, objective.config.logprob)

    def answers(stream: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.bincount(batch.row_of_token, weight * stream.astype(np.float64), len(batch)))

    policy = answers(logprob)
    reference = answers(batch["ref_logprob"]) if "ref_logprob" in batch else None
    pairs = Pairs(
        chosen=policy[chosen],
        rejected=policy[rejected],
        ref_chosen=None if reference is None else reference[chosen],
        ref_rejected=None if reference is None else reference[rejected],
    )
    share = torch.full((len(chosen),), 1.0 / len(chosen), dtype=torch.float64)
    class_share = None
    if pairs.ref_margin is not None:
        which = torch.sign(pairs.ref_margin).long() + 1
        class_share = 1.0 / torch.bincount(which, minlength=3).double()[which]
    found = objective.metrics(pairs, share, class_share)
    found["loss"] = torch.sum(
        share * pair_loss(objective.config.loss, pairs.margin, objective.target(pairs), objective.config.beta)
    )
    mask = np.asarray(batch["loss_mask"], bool) & np.isin(batch.row_of_token, chosen)
    return {
        **{name: float(value) for name, value in found.items()},
        "nll": float(-np.mean(logprob[mask], dtype=np.float64)),
    }


def pair_rows(batch: Columns) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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


def answer_weights(batch: Columns, mode: SequenceLogprob) -> Float64s:
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
    return mask / np.maximum(np.bincount(row, mask, minlength=len(batch)), 1)[row]


def _implicit_rewards(pairs: Pairs, target: Tensor, beta: float) -> Mapping[str, Tensor]:
    """HyPO's logged rewards; see `PreferenceLoss`."""
    assert pairs.ref_chosen is not None and pairs.ref_rejected is not None
    half = (target - (pairs.ref_chosen - pairs.ref_rejected)) / 2
    margin = pairs.margin.detach() - target
    return {
        "rewards/chosen": beta * (pairs.chosen.detach() - pairs.ref_chosen - half),
        "rewards/rejected": beta * (pairs.rejected.detach() - pairs.ref_rejected + half),
        "rewards/margin": beta * margin,
        "rewards/accuracy": (margin > 0).double(),
    }


def _by_row(view: TokenView, name: str) -> Tensor:
    """[rows] a stream that is the same on every token of a row."""
    stream = view[name]
    return stream.new_zeros(view.rows).scatter(0, view.segment, stream)


def _sides(pair: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """Row numbers of the chosen and the rejected answers within the micro-batch, in the same order of pairs."""
    order = torch.argsort(pair * 2 + (1 - side))
    chosen, rejected = order[0::2], order[1::2]
    whole = len(pair) % 2 == 0 and bool(torch.all(pair[chosen] == pair[rejected]))
    if not whole or not bool(torch.all(side[chosen] > side[rejected])):
        raise ValueError("a pair was split over micro-batches; the objective's whole_groups was not respected")
    return chosen, rejected
