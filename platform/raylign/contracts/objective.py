"""Scores -> advantages -> losses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from raylign.batch import Batch
from raylign.contracts.part import Part
from raylign.records import Float32s

if TYPE_CHECKING:
    import torch


class Advantage(Part):
    """Scores -> per-token advantages."""

    what = "an advantage"
    # False: works without scores (dense rewards from other models); then a group of one, and a trajectory without a
    # score, are rows like any other (their score is NaN).
    reads_scores: ClassVar[bool] = True
    # True: the samples of a group are compared with each other, so that a group of one teaches nothing.
    compares_samples: ClassVar[bool] = False

    @property
    def by_role(self) -> bool:
        """Whether samples are compared within their role only."""
        return False

    @property
    def whole_trajectories(self) -> bool:
        """Whether it looks along a trajectory, so that all of its calls must stand in one row."""
        return False

    @property
    def token_weights(self) -> Mapping[str, float]:
        """Weight of each score by token (`Group.token_scores`) that it adds to its advantages."""
        return {}

    @property
    def needs(self) -> frozenset[str]:
        """The extra streams that it reads: ``value``, ``old_logprob``, or one that a frozen model fills."""
        return frozenset()

    @abstractmethod
    def assign(self, batch: Batch, scores: Float32s) -> tuple[Batch, dict[str, float]]:
        """The batch with its `advantage` stream (and `return`, for a critic) filled in, and metrics.

        scores: [B] one scalar per row, equal on the rows of one of ``batch.samples``. What is compared has the same
        number in ``batch.groups``.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """The loss positions of one micro-batch, as tensors of length K on the learner's device.

    `logprob` and `values` carry gradient, and `extras` where their forward kind says so. `segment` numbers the rows of
    the micro-batch 0..rows-1; a row is never split over micro-batches. Streams are those of the batch, gathered at the
    same positions.
    """

    streams: Mapping[str, torch.Tensor]  # name -> [K]
    segment: torch.Tensor  # [K] int64
    rows: int
    logprob: torch.Tensor | None = None  # [K] of the sampled id, temperature-scaled as the sampler's
    entropy: torch.Tensor | None = None  # [K] of the same distribution
    values: torch.Tensor | None = None  # [K] scalar_head only
    extras: Mapping[str, torch.Tensor] = field(default_factory=dict)  # [K, ...] whatever else a forward kind gives

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.streams[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerms:
    """Named loss components of one micro-batch, each already normalised by its global count, and additive metrics.

    Summed over micro-batches and ranks, `components` are the losses of the whole batch, and `metrics` its averages.
    Metrics named ``max/...`` are reduced by maximum instead.
    """

    components: Mapping[str, torch.Tensor]
    metrics: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Objective(Part):
    """A loss as a sum of named components. Runs in the learner; knows nothing of sharding or packing."""

    what = "an objective"
    # True: compares the rows of a group (pairs); the learner then never splits one over micro-batches or ranks.
    whole_groups: ClassVar[bool] = False

    @property
    def needs(self) -> frozenset[str]:
        """Streams that must be in the batch before `prepare`: old_logprob, ref_logprob, value, return, ..."""
        return frozenset()

    @property
    def corrects_staleness(self) -> bool:
        """Whether samples of policies older than the present one are weighted for the difference."""
        return False

    @property
    def reuses_batches(self) -> bool:
        """Whether several updates on one batch are sound: it holds the log-probs from before the first of them."""
        return False

    @property
    def needs_entropy(self) -> bool:
        """Whether `TokenView.entropy` must carry gradient (it is always given, detached, for metrics)."""
        return False

    @abstractmethod
    def prepare(self, batch: Batch) -> Batch:
        """Once per optimiser step on the whole batch: stamp the weight stream of each component.

        The weights carry the global normalisation: component loss = sum over all tokens of weight * token loss.
        """

    @abstractmethod
    def terms(self, view: TokenView) -> LossTerms:
        """Loss components and metrics of one micro-batch."""
