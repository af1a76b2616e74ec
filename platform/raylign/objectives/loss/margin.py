"""The formulas on pairs: DPO, HyPO, its smooth form, the reference-free margin of SimPO, and IPO's square.

Δθ and Δref are the margins of policy and reference, log-prob of the chosen answer minus that of the rejected one. The
loss of a pair is -log sigmoid(β (Δθ - D)) or a square; the methods differ in D, the margin that the policy must beat.
"""

from __future__ import annotations

from enum import Enum

from raylign.lazy import torch


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


class PairLoss(Enum):
    """The loss of a pair, with h = Δθ - D.

    `sigmoid`: -log sigmoid(β h). `squared`: (h - 1 / (2 β))² (IPO, arXiv:2310.12036, eq. 17).
    """

    sigmoid = "sigmoid"
    squared = "squared"


def target_margin(
    mode: ReferenceMargin, ref_margin: torch.Tensor, gamma: float = 0.0, tau: float = 0.0
) -> torch.Tensor:
    """D of each pair, in the shape of `ref_margin` (Δref); the formulas are those of `ReferenceMargin`.

    The softplus is written as max + τ log1p(exp(-|.| / τ)): exact for γ = -inf, and no overflow for a tiny τ.
    """
    match mode:
        case ReferenceMargin.dpo:
            return ref_margin
        case ReferenceMargin.none:
            return torch.full_like(ref_margin, gamma)
        case ReferenceMargin.hypo:
            return ref_margin.clamp(min=gamma)
        case ReferenceMargin.hypo_smooth:
            hard = ref_margin.clamp(min=gamma)
            return hard if tau <= 0 else hard + tau * torch.log1p(torch.exp(-torch.abs(ref_margin - gamma) / tau))


def pair_loss(kind: PairLoss, margin: torch.Tensor, target: torch.Tensor, beta: float) -> torch.Tensor:
    """[P] loss of each pair; `margin` (Δθ) carries gradient, `target` (D) does not."""
    if kind is PairLoss.sigmoid:
        return -torch.nn.functional.logsigmoid(beta * (margin - target))
    return (margin - target - 1 / (2 * beta)) ** 2
