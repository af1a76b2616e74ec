"""What all policy losses share: old log-probs, ratio, normalisation, mismatch, KL, entropy, metrics."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from raylign.batch import Batch
from raylign.contracts import LossTerms, Objective, TokenView
from raylign.lazy import torch
from raylign.objectives.aggregate import Aggregation, check_aggregation, mean_weights, token_weights
from raylign.objectives.kl import KlEstimator, kl
from raylign.objectives.mismatch import Mismatch, MismatchConfig, mismatch_weights


class OldLogprob(Enum):
    """Whose log-prob is log pi_old.

    `detach`: the current one with its gradient stopped; r = 1 by construction (one update per batch, no extra pass).
    `recompute`: the stream `old_logprob`, made by the learner before the first update of the batch.
    `sampler`: the stream `sampler_logprob`; r then also carries the engine's numerical gap and staleness.
    """

    detach = "detach"
    recompute = "recompute"
    sampler = "sampler"


class PolicyLoss(Objective):
    """Components `policy`, `kl` (when kl_coef is not 0) and `entropy` (when entropy_coef is not 0).

    A loss derives from this and writes `token_loss`: l_t from r_t = exp(log pi - log pi_old), the advantage A_t and
    log pi. policy = sum_t weight_t m_t l_t with weight_t from `aggregation` and the `weight` stream, m_t from
    `mismatch`. kl = kl_coef sum_t c_t KL_t and entropy = -entropy_coef sum_t c_t H_t with the same aggregation c_t but
    without the `weight` stream's magnitude and without m_t. kl_ratio multiplies KL_t by r_t of the token, gradient
    included (DeepSeek-V3.2, arXiv:2512.02556; on by default in TRL as `use_bias_correction_kl`); GRPO's own equation
    has no such factor. H is the entropy of the temperature-scaled distribution.

    Metrics are means over counted tokens. `clip_low` / `clip_high`: share of tokens that a bound of r took out.
    `approx_kl_k1`, `approx_kl_k3`: KL(old || current). `sampler_gap`: |learner - sampler| log-prob at equal weights
    (of log pi_old; of the current log-prob when old_logprob=sampler). `mismatch_cut`: share of tokens whose mismatch
    weight was cut, masked or vetoed.
    """

    @dataclass
    class Config:
        """Every choice that changes the number, but those of the formula."""

        old_logprob: OldLogprob = OldLogprob.detach
        log_ratio_clamp: float | None = None  # clamp log r to +-this (verl and OpenRLHF: 20); kills the gradient beyond
        aggregation: Aggregation = Aggregation.token
        constant_length: int = 0  # the divisor of aggregation=constant
        kl_coef: float = 0.0
        kl_estimator: KlEstimator = KlEstimator.k3  # what each optimises in the loss: see kl.py
        kl_ratio: bool = False  # KL_t times the token's r, gradient included: k1 and k3 become the reverse KL
        entropy_coef: float = 0.0
        mismatch: MismatchConfig = field(default_factory=MismatchConfig)

        def __post_init__(self) -> None:
            check_aggregation(self.aggregation, self.constant_length)
            if self.log_ratio_clamp is not None and self.log_ratio_clamp <= 0:
                raise ValueError(f"log_ratio_clamp={self.log_ratio_clamp} must be positive, or null")
            if self.old_logprob is OldLogprob.sampler and self.mismatch.mode is not Mismatch.none:
                raise ValueError(
                    "old_logprob=sampler already corrects for the sampler in the ratio, a mismatch weight would do it "
                    "twice: set mismatch.mode=none or old_logprob=recompute"
                )

    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    @abstractmethod
    def token_loss(self, ratio: torch.Tensor, advantage: torch.Tensor, logprob: torch.Tensor) -> torch.Tensor:
        """[K] l_t from r, A and log pi, [K] each; `ratio` and `logprob` carry gradient."""

    def ratio(self, log_ratio: torch.Tensor, token_ratio: torch.Tensor, view: TokenView) -> torch.Tensor:
        """[K] r as `token_loss` sees it: that of the token, token_ratio = exp(log_ratio)."""
        return token_ratio

    def clipped(self, ratio: torch.Tensor, advantage: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[K] which tokens a lower and an upper bound of r took out, for the metrics: none."""
        return torch.zeros_like(ratio), torch.zeros_like(ratio)

    @property
    def needs(self) -> frozenset[str]:
        """`old_logprob` for old_logprob=recompute, `ref_logprob` for a KL component."""
        old = {"old_logprob"} if self.config.old_logprob is OldLogprob.recompute else set()
        return frozenset(old | ({"ref_logprob"} if self.config.kl_coef != 0 else set()))

    @property
    def corrects_staleness(self) -> bool:
        """By the ratio where it is to the sampler, or by the mismatch weight."""
        return self.config.old_logprob is OldLogprob.sampler or self.config.mismatch.mode is not Mismatch.none

    @property
    def reuses_batches(self) -> bool:
        """Unless log pi_old is the present policy's."""
        return self.config.old_logprob is not OldLogprob.detach

    @property
    def needs_entropy(self) -> bool:
        """Whether the entropy carries gradient into the loss."""
        return self.config.entropy_coef != 0

    def prepare(self, batch: Batch) -> Batch:
        """Stamp `policy_weight`, `penalty_weight` (KL and entropy) and `mean_weight` (metrics).

        Raises ValueError when a needed stream is absent, or the sampler's log-probs are (all 0 on the loss tokens).
        """
        config = self.config
        missing = sorted(name for name in self.needs if name not in batch)
        if missing:
            raise ValueError(f"the batch lacks the streams {', '.join(missing)} that this objective needs")
        uses_sampler = config.old_logprob is OldLogprob.sampler or config.mismatch.mode is not Mismatch.none
        mask = np.asarray(batch["loss_mask"], bool)
        if uses_sampler and mask.any() and not np.any(batch["sampler_logprob"][mask]):
            raise ValueError("sampler_logprob is 0 on every loss token: the rollout did not record log-probs")
        return batch.with_streams(
            policy_weight=token_weights(batch, config.aggregation, config.constant_length),
            penalty_weight=mean_weights(batch, config.aggregation, config.constant_length),
            mean_weight=mean_weights(batch),
        )

    def terms(self, view: TokenView) -> LossTerms:
        """The loss of one micro-batch; see the class docstring."""
        config = self.config
        assert view.logprob is not None, "a policy loss needs the forward kind causal_lm"
        logprob, sampler = view.logprob, view["sampler_logprob"]
        old = self._old(view, logprob)
        log_ratio = logprob - old
        if config.log_ratio_clamp is not None:
            log_ratio = log_ratio.clamp(-config.log_ratio_clamp, config.log_ratio_clamp)
        token_ratio = torch.exp(log_ratio)
        ratio = self.ratio(log_ratio, token_ratio, view)
        loss = self.token_loss(ratio, view["advantage"], logprob)
        factor = mismatch_weights(config.mismatch, old, sampler, view.segment, view.rows)
        components = {"policy": torch.sum(view["policy_weight"] * factor * loss)}
        penalty_weight = view["penalty_weight"]
        if config.kl_coef != 0:
            divergence = kl(config.kl_estimator, logprob, view["ref_logprob"])
            if config.kl_ratio:
                divergence = divergence * token_ratio
            components["kl"] = config.kl_coef * torch.sum(penalty_weight * divergence)
        if config.entropy_coef != 0:
            assert view.entropy is not None, "needs_entropy asks for it"
            components["entropy"] = -config.entropy_coef * torch.sum(penalty_weight * view.entropy)
        with torch.no_grad():
            low, high = self.clipped(ratio, view["advantage"])
            parts = {"clip_low": low, "clip_high": high, "mismatch_weight": factor}
            free = replace(config.mismatch, low=0.0, high=math.inf, veto=0.0)
            parts["mismatch_cut"] = factor != mismatch_weights(free, old, sampler, view.segment, view.rows)
            metrics = self._metrics(view, old, ratio, parts)
        return LossTerms(components=components, metrics=metrics)

    def _old(self, view: TokenView, logprob: torch.Tensor) -> torch.Tensor:
        if self.config.old_logprob is OldLogprob.detach:
            return logprob.detach()
        return view["old_logprob" if self.config.old_logprob is OldLogprob.recompute else "sampler_logprob"]

    def _metrics(
        self, view: TokenView, old: torch.Tensor, ratio: torch.Tensor, parts: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        assert view.logprob is not None
        weight = view["mean_weight"]
        logprob = view.logprob.detach()
        learner = logprob if self.config.old_logprob is OldLogprob.sampler else old
        gap = torch.abs(learner - view["sampler_logprob"])
        averaged = dict(parts)
        averaged["ratio"] = ratio
        averaged["approx_kl_k1"] = kl(KlEstimator.k1, old, logprob)
        averaged["approx_kl_k3"] = kl(KlEstimator.k3, old, logprob)
        averaged["sampler_gap"] = gap
        if view.entropy is not None:
            averaged["entropy"] = view.entropy.detach()
        if "ref_logprob" in view.streams:
            averaged["ref_kl"] = kl(self.config.kl_estimator, logprob, view["ref_logprob"])
        metrics = {name: torch.sum(weight * value) for name, value in averaged.items()}
        for name in ("sampler_gap", "mismatch_weight"):
            largest = averaged[name][weight > 0]
            metrics[f"max/{name}"] = largest.max() if len(largest) else torch.zeros_like(weight.sum())
        return metrics
