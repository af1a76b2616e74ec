"""The objective of preference methods: the loss of `margin` on pairs of rows, averaged over the batch's pairs.

A pair is two rows of one group: the chosen answer first, the rejected one second, after one prompt. With s(y) the sum
(or mean) of the answer's token log-probs, the margins are Δθ = s_θ(chosen) - s_θ(rejected) and Δref likewise under the
frozen reference. Δref is a constant; nothing is clipped on the policy's side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raylign.batch import Batch
from raylign.config.numbers import unbounded
from raylign.contracts import LossTerms, Objective, TokenView
from raylign.lazy import torch
from raylign.objectives.loss.margin import PairLoss, ReferenceMargin, pair_loss, target_margin
from raylign.objectives.loss.pairs import Pairs, SequenceLogprob, answer_weights, by_row, pair_rows, sides
from raylign.objectives.mismatch import row_sums

CLASSES = {"optimistic": 1, "neutral": 0, "pessimistic": -1}  # by the sign of Δref


class PreferenceLoss(Objective):
    """Component `preference` = mean over the batch's pairs of the pair loss; see `margin`.

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
        gamma: float = unbounded(0.0)  # floor of D; D itself for reference_margin=none
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

    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    @classmethod
    def without_reference(cls) -> PreferenceLoss:
        """For the figures that need none."""
        return cls(cls.Config(reference_margin=ReferenceMargin.none, classify=False))

    @property
    def needs(self) -> frozenset[str]:
        """`ref_logprob`, unless neither the loss nor a metric asks the reference."""
        uses = self.config.reference_margin is not ReferenceMargin.none or self.config.classify
        return frozenset({"ref_logprob"} if uses else ())

    def prepare(self, batch: Batch) -> Batch:
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
        chosen, rejected = sides(by_row(view, "pair"), by_row(view, "pair_side"))
        reference = by_row(view, "ref_answer") if self.needs else None
        pairs = Pairs(
            chosen=answers[chosen],
            rejected=answers[rejected],
            ref_chosen=None if reference is None else reference[chosen],
            ref_rejected=None if reference is None else reference[rejected],
        )
        share = by_row(view, "pair_share")[chosen]
        loss = pair_loss(self.config.loss, pairs.margin, self.target(pairs), self.config.beta)
        lengths = row_sums(torch.ones_like(answers[view.segment]), view.segment, view.rows)
        with torch.no_grad():
            class_share = by_row(view, "class_share")[chosen] if self.needs else None
            metrics = self.metrics(pairs, share, class_share)
            metrics["length/chosen"] = torch.sum(share * lengths[chosen])
            metrics["length/rejected"] = torch.sum(share * lengths[rejected])
        return LossTerms(components={"preference": torch.sum(share * loss)}, metrics=metrics)

    def target(self, pairs: Pairs) -> torch.Tensor:
        """[P] D, without gradient."""
        config, ref_margin = self.config, pairs.ref_margin
        if ref_margin is None:
            ref_margin = torch.zeros_like(pairs.margin)
        return target_margin(config.reference_margin, ref_margin.detach(), config.gamma, config.tau).detach()

    def metrics(self, pairs: Pairs, share: torch.Tensor, class_share: torch.Tensor | None) -> dict[str, torch.Tensor]:
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
        metrics = {name: torch.sum(share * value) for name, value in (values | only_all).items()}
        for name, sign in CLASSES.items():
            inside = torch.sign(ref_margin) == sign
            metrics[f"share/{name}"] = torch.sum(share * inside)
            if bool(inside.any()):  # absent is not zero: without such a pair there is no figure
                weight = torch.where(inside, class_share, torch.zeros_like(class_share))
                metrics |= {f"{metric}/{name}": torch.sum(weight * value) for metric, value in values.items()}
        return metrics


def held_out_metrics(objective: PreferenceLoss, batch: Batch, logprob: NDArray[np.float32]) -> dict[str, float]:
    """The metrics of `PreferenceLoss` over all pairs of a batch, from the policy's token log-probs [N].

    Also `loss` and `nll` (mean over the chosen answers' tokens). Class metrics need the stream `ref_logprob`.
    """
    chosen, rejected = pair_rows(batch)
    weight = answer_weights(batch, objective.config.logprob)

    def answers(stream: NDArray[np.float32]) -> torch.Tensor:
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
    metrics = objective.metrics(pairs, share, class_share)
    metrics["loss"] = torch.sum(
        share * pair_loss(objective.config.loss, pairs.margin, objective.target(pairs), objective.config.beta)
    )
    mask = np.asarray(batch["loss_mask"], bool) & np.isin(batch.row_of_token, chosen)
    return {
        **{name: float(value) for name, value in metrics.items()},
        "nll": float(-np.mean(logprob[mask], dtype=np.float64)),
    }


def _implicit_rewards(pairs: Pairs, target: torch.Tensor, beta: float) -> Mapping[str, torch.Tensor]:
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
