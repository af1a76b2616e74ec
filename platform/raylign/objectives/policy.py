"""Policy losses on sampled tokens: PPO/DAPO clip, GSPO, CISPO, plain policy gradient; with KL and entropy terms."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
import torch

from raylign.columns import Columns
from raylign.contracts import LossTerms, Objective, TokenView
from raylign.objectives.aggregate import Aggregation, check_aggregation, mean_weights, token_weights
from raylign.objectives.kl import KlEstimator, kl
from raylign.objectives.mismatch import Mismatch, MismatchConfig, mismatch_weights, row_sums


class Surrogate(Enum):
    """The token loss. r = exp(log pi - log pi_old), A the advantage, sg stop-gradient, [l, h] = [1 - low, 1 + high].

    `clip`: -min(r A, clip(r, l, h) A) (PPO, arXiv:1707.06347; clip_high > clip_low is DAPO, arXiv:2503.14476).
    `gspo`: the same with s_t = sg[s] exp(log pi - sg[log pi]), s = exp(mean over the row of log r) (arXiv:2507.18071,
    GSPO-token, whose gradient equals GSPO's when A is one number per row). Use aggregation=sequence for the paper.
    `cispo`: -sg[clip(r)] A log pi (arXiv:2506.13585); the bounds are `cispo_bounds`.
    `reinforce`: -A log pi.
    """

    clip = "clip"
    gspo = "gspo"
    cispo = "cispo"
    reinforce = "reinforce"


class CispoBounds(Enum):
    """What the clip settings mean for `cispo`; peers use the same names for different things.

    `one_plus`: clip(r, 1 - clip_low, 1 + clip_high) (the paper's equation, verl).
    `absolute`: min(r, clip_high), no lower bound (TRL; ScaleRL uses 4 to 8).
    """

    one_plus = "one_plus"
    absolute = "absolute"


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

    policy = sum_t weight_t m_t l_t with weight_t from `aggregation` and the `weight` stream, l_t from `loss`, m_t from
    `mismatch`. kl = kl_coef sum_t c_t KL_t and entropy = -entropy_coef sum_t c_t H_t with the same aggregation c_t but
    without the `weight` stream's magnitude and without m_t. kl_ratio multiplies KL_t by r_t of the token, gradient
    included (DeepSeek-V3.2, arXiv:2512.02556; on by default in TRL as `use_bias_correction_kl`); GRPO's own equation
    has no such factor. H is the entropy of the temperature-scaled distribution.

    Metrics are means over counted tokens. `clip_low` / `clip_high`: share of tokens whose gradient the bound removed.
    `approx_kl_k1`, `approx_kl_k3`: KL(old || current). `sampler_gap`: |learner - sampler| log-prob at equal weights
    (of log pi_old; of the current log-prob when old_logprob=sampler). `mismatch_cut`: share of tokens whose mismatch
    weight was cut, masked or vetoed.
    """

    @dataclass
    class Config:
        """Every choice that changes the number."""

        loss: Surrogate = Surrogate.clip
        clip_low: float = 0.2
        clip_high: float = 0.2
        dual_clip: float | None = None  # c > 1: where A < 0 the loss is at most -c A (arXiv:1912.09729); TRL's delta
        cispo_bounds: CispoBounds = CispoBounds.one_plus
        log_ratio_clamp: float | None = None  # clamp log r to +-this (verl and OpenRLHF: 20); kills the gradient beyond
        old_logprob: OldLogprob = OldLogprob.detach
        aggregation: Aggregation = Aggregation.token
        constant_length: int = 0  # the divisor of aggregation=constant
        kl_coef: float = 0.0
        kl_estimator: KlEstimator = KlEstimator.k3  # what each optimises in the loss: see kl.py
        kl_ratio: bool = False  # KL_t times the token's r, gradient included: k1 and k3 become the reverse KL
        entropy_coef: float = 0.0
        mismatch: MismatchConfig = field(default_factory=MismatchConfig)

        def __post_init__(self) -> None:
            check_aggregation(self.aggregation, self.constant_length)
            if self.clip_low < 0 or self.clip_high < 0:
                raise ValueError(f"clip_low={self.clip_low}, clip_high={self.clip_high}: set both to 0 or more")
            if self.dual_clip is not None and self.dual_clip <= 1 + self.clip_high:
                raise ValueError(f"dual_clip={self.dual_clip} must be greater than 1 + clip_high, or set it to null")
            if self.dual_clip is not None and self.loss not in (Surrogate.clip, Surrogate.gspo):
                raise ValueError(f"dual_clip does nothing with loss={self.loss.name}: set it to null")
            if self.log_ratio_clamp is not None and self.log_ratio_clamp <= 0:
                raise ValueError(f"log_ratio_clamp={self.log_ratio_clamp} must be positive, or null")
            if self.old_logprob is OldLogprob.sampler and self.mismatch.mode is not Mismatch.none:
                raise ValueError(
                    "old_logprob=sampler already corrects for the sampler in the ratio, a mismatch weight would do it "
                    "twice: set mismatch.mode=none or old_logprob=recompute"
                )

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def needs(self) -> frozenset[str]:
        """`old_logprob` for old_logprob=recompute, `ref_logprob` for a KL component."""
        old = {"old_logprob"} if self.config.old_logprob is OldLogprob.recompute else set()
        return frozenset(old | ({"ref_logprob"} if self.config.kl_coef != 0 else set()))

    @property
    def needs_entropy(self) -> bool:
        """Whether the entropy carries gradient into the loss."""
        return self.config.entropy_coef != 0

    def prepare(self, batch: Columns) -> Columns:
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
        if config.loss is Surrogate.gspo:
            log_ratio = _row_mean(log_ratio, view).detach() + logprob - logprob.detach()
        ratio = torch.exp(log_ratio) if config.loss is Surrogate.gspo else token_ratio
        loss, low, high = self._surrogate(ratio, view["advantage"], logprob)
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
            parts = {"clip_low": low, "clip_high": high, "mismatch_weight": factor}
            free = replace(config.mismatch, low=0.0, high=math.inf, veto=0.0)
            parts["mismatch_cut"] = factor != mismatch_weights(free, old, sampler, view.segment, view.rows)
            metrics = self._metrics(view, old, ratio, parts)
        return LossTerms(components=components, metrics=metrics)

    def _old(self, view: TokenView, logprob: torch.Tensor) -> torch.Tensor:
        if self.config.old_logprob is OldLogprob.detach:
            return logprob.detach()
        return view["old_logprob" if self.config.old_logprob is OldLogprob.recompute else "sampler_logprob"]

    def _surrogate(
        self, ratio: torch.Tensor, advantage: torch.Tensor, logprob: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """[K] token losses, and which tokens the lower and the upper bound took out."""
        config = self.config
        lowest, highest = 1 - config.clip_low, 1 + config.clip_high
        if config.loss is Surrogate.reinforce:
            return -advantage * logprob, torch.zeros_like(ratio), torch.zeros_like(ratio)
        if config.loss is Surrogate.cispo:
            if config.cispo_bounds is CispoBounds.absolute:
                lowest, highest = 0.0, config.clip_high
            weight = ratio.clamp(lowest, highest).detach()
            return -weight * advantage * logprob, ratio < lowest, ratio > highest
        objective = torch.minimum(ratio * advantage, ratio.clamp(lowest, highest) * advantage)
        low, high = (ratio < lowest) & (advantage < 0), (ratio > highest) & (advantage > 0)
        if config.dual_clip is not None:
            floor = config.dual_clip * advantage
            high = high | ((ratio > config.dual_clip) & (advantage < 0))
            objective = torch.where(advantage < 0, torch.maximum(objective, floor), objective)
        return -objective, low, high

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


def _row_mean(values: torch.Tensor, view: TokenView) -> torch.Tensor:
    """[K] mean of the row's values, repeated on each of its tokens."""
    sums = row_sums(values, view.segment, view.rows)
    counts = row_sums(torch.ones_like(values), view.segment, view.rows)
    return (sums / counts.clamp(min=1))[view.segment]
