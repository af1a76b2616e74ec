"""Policy losses by their token formula: PPO and DAPO clip, GSPO, CISPO, plain policy gradient."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from raylign.contracts import TokenView
from raylign.lazy import torch
from raylign.objectives.loss.base import PolicyLoss
from raylign.objectives.mismatch import row_sums


class ClippedLoss(PolicyLoss):
    """l = -min(r A, clip(r, 1 - low, 1 + high) A) (PPO, arXiv:1707.06347, eq. 7; GRPO).

    clip_high > clip_low is DAPO (arXiv:2503.14476). With `dual_clip` c, where A < 0 the loss is at most -c A
    (arXiv:1912.09729); TRL's delta.
    """

    @dataclass
    class Config(PolicyLoss.Config):
        """The bounds of r."""

        clip_low: float = 0.2
        clip_high: float = 0.2
        dual_clip: float | None = None  # c > 1 + clip_high, or null

        def __post_init__(self) -> None:
            super().__post_init__()
            check_clip(self.clip_low, self.clip_high)
            if self.dual_clip is not None and self.dual_clip <= 1 + self.clip_high:
                raise ValueError(f"dual_clip={self.dual_clip} must be greater than 1 + clip_high, or set it to null")

    config: Config

    @property
    def bounds(self) -> tuple[float, float]:
        """[1 - low, 1 + high]."""
        return 1 - self.config.clip_low, 1 + self.config.clip_high

    def token_loss(self, ratio: torch.Tensor, advantage: torch.Tensor, logprob: torch.Tensor) -> torch.Tensor:
        """-min(r A, clip(r, 1 - low, 1 + high) A), and at most -c A where A < 0."""
        objective = torch.minimum(ratio * advantage, ratio.clamp(*self.bounds) * advantage)
        if self.config.dual_clip is not None:
            floor = torch.maximum(objective, self.config.dual_clip * advantage)
            objective = torch.where(advantage < 0, floor, objective)
        return -objective

    def clipped(self, ratio: torch.Tensor, advantage: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens below 1 - low with A < 0, and above 1 + high with A > 0 (above c with A < 0)."""
        lowest, highest = self.bounds
        low, high = (ratio < lowest) & (advantage < 0), (ratio > highest) & (advantage > 0)
        if self.config.dual_clip is not None:
            high = high | ((ratio > self.config.dual_clip) & (advantage < 0))
        return low, high


class GSPO(ClippedLoss):
    """The clip of s_t = sg[s] exp(log pi - sg[log pi]), s = exp(mean over the row of log r) (arXiv:2507.18071).

    This is GSPO-token, whose gradient equals GSPO's when A is one number per row. Use aggregation=sequence for the
    paper.
    """

    def ratio(self, log_ratio: torch.Tensor, token_ratio: torch.Tensor, view: TokenView) -> torch.Tensor:
        """s_t."""
        assert view.logprob is not None
        return torch.exp(_row_mean(log_ratio, view).detach() + view.logprob - view.logprob.detach())


class CispoBounds(Enum):
    """What the clip settings of `CISPO` mean; peers use the same names for different things.

    `one_plus`: clip(r, 1 - clip_low, 1 + clip_high) (the paper's equation, verl).
    `absolute`: min(r, clip_high), no lower bound (TRL; ScaleRL uses 4 to 8).
    """

    one_plus = "one_plus"
    absolute = "absolute"


class CISPO(PolicyLoss):
    """l = -sg[clip(r, low, high)] A log pi (arXiv:2506.13585, eq. 4-5): a clipped token keeps its gradient."""

    @dataclass
    class Config(PolicyLoss.Config):
        """The bounds of r; see `CispoBounds`."""

        clip_low: float = 0.2
        clip_high: float = 0.2
        cispo_bounds: CispoBounds = CispoBounds.one_plus

        def __post_init__(self) -> None:
            super().__post_init__()
            check_clip(self.clip_low, self.clip_high)

    config: Config

    @property
    def bounds(self) -> tuple[float, float]:
        """[low, high] of r."""
        if self.config.cispo_bounds is CispoBounds.absolute:
            return 0.0, self.config.clip_high
        return 1 - self.config.clip_low, 1 + self.config.clip_high

    def token_loss(self, ratio: torch.Tensor, advantage: torch.Tensor, logprob: torch.Tensor) -> torch.Tensor:
        """-sg[clip(r)] A log pi."""
        return -ratio.clamp(*self.bounds).detach() * advantage * logprob

    def clipped(self, ratio: torch.Tensor, advantage: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens whose weight was raised to the lower bound, and lowered to the upper."""
        lowest, highest = self.bounds
        return ratio < lowest, ratio > highest


class Reinforce(PolicyLoss):
    """l = -A log pi (Williams 1992; RLOO)."""

    def token_loss(self, ratio: torch.Tensor, advantage: torch.Tensor, logprob: torch.Tensor) -> torch.Tensor:
        """-A log pi."""
        return -advantage * logprob


def check_clip(low: float, high: float) -> None:
    """Raise ValueError when a clip setting is below 0."""
    if low < 0 or high < 0:
        raise ValueError(f"clip_low={low}, clip_high={high}: set both to 0 or more")


def _row_mean(values: torch.Tensor, view: TokenView) -> torch.Tensor:
    """[K] mean of the row's values, repeated on each of its tokens."""
    sums = row_sums(values, view.segment, view.rows)
    counts = row_sums(torch.ones_like(values), view.segment, view.rows)
    return (sums / counts.clamp(min=1))[view.segment]
