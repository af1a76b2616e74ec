"""The contract of a forward kind: all that an engine asks about the model that it trains.

load ─► settle ─► per micro-batch: pack ─► inputs ─► forward ─► view ─► objective
                  between updates:  fill (streams of a batch), weights, probe (publishing), export
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from raylign.actors.learner.published import Group
from raylign.actors.learner.spec import LearnerSpec, kind_node
from raylign.batch import Batch
from raylign.config.build import build
from raylign.contracts import Part, TokenView
from raylign.errors import LearnerError
from raylign.packing import MicroBatch
from raylign.records import Float32s, Int32s

Run = Callable[..., tuple[Tensor, ...]]  # the model, or the DeepSpeed engine around it
Agree = Callable[[float], float]  # the largest of a number over all ranks


class ForwardKind(Part):
    """What a model computes for a loss token. Made by every rank for one model, that of `spec`.

    A subclass defines a dataclass ``Config``. All ranks call the same methods in the same order; `run` is to be called
    equally often on each.
    """

    what = "a forward kind"
    made_with = ("spec",)
    streams: ClassVar[frozenset[str]] = frozenset()  # of a batch, that `fill` can give

    @dataclass
    class Config:
        """No settings."""

    model: nn.Module  # what is trained; there once loaded

    def __init__(self, config: Any, *, spec: LearnerSpec) -> None:
        super().__init__(config)
        self.spec = spec

    @abstractmethod
    def load(self) -> nn.Module:
        """Read the model of the spec into `model`, and return it. Frozen weights have ``requires_grad=False``."""

    def settle(self, run: Run, device: torch.device, agree: Agree = lambda number: number) -> str:
        """Check, once the model is on its device, that `run` computes what it should.

        Returns one line about a model that is not computed as fast as others, empty for most. Raises ValueError for one
        that cannot be computed exactly.
        """
        return ""

    @abstractmethod
    def pack(self, batch: Batch, ranks: int, whole_groups: bool = False) -> list[list[MicroBatch]]:
        """Micro-batches by ``[rank][micro step]``, the same number for each rank (see `raylign.packing.pack`)."""

    @abstractmethod
    def inputs(self, micro: MicroBatch, batch: Batch, device: torch.device) -> Any:
        """What the model reads. ``batch.payloads[row]``, where there are any, is what a row has beside its tokens."""

    @abstractmethod
    def forward(self, run: Run, inputs: Any, entropy_grad: bool = False) -> tuple[Tensor, ...]:
        """The outputs that a loss is taken of, with gradient, also for a micro-batch without loss tokens."""

    @abstractmethod
    def view(self, outputs: tuple[Tensor, ...], micro: MicroBatch, batch: Batch, device: torch.device) -> TokenView:
        """These outputs as an objective reads them (see `passes.token_view`)."""

    @abstractmethod
    def fill(self, names: Collection[str], run: Run, inputs: Any) -> Mapping[str, Tensor]:
        """[K] by name: some of `streams` at the loss tokens of a micro-batch, without gradient, in as few passes as
        they take.
        """

    def heads(self) -> Sequence[nn.Module]:
        """Parts of the loaded model that are trained as a whole where adapters stand in for its other weights."""
        return ()

    @abstractmethod
    def weights(self) -> list[Group]:
        """All weights by the names and in the shapes of a checkpoint."""

    def probe(self, run: Run, device: torch.device) -> Int32s:
        """[R, L] ids: rows whose log-probs prove that a rollout engine runs the weights that were published."""
        raise LearnerError(f"a {self.spec.kind_name} has no probe, so that its weights cannot be published")

    def probe_logprobs(self, run: Run, rows: Int32s, device: torch.device) -> Float32s:
        """[R, L - 1] log-probs of the later ids of such rows, as exact as this model can tell."""
        raise LearnerError(f"a {self.spec.kind_name} has no probe, so that its weights cannot be published")

    @abstractmethod
    def export(self, weights: dict[str, Tensor], folder: str) -> None:
        """Write a folder that `load` can read. weights: whole tensors by the names of `weights`."""


def forward_kind(spec: LearnerSpec) -> ForwardKind:
    """The kind that a spec names. Raises ConfigError when its class cannot be made."""
    return build(ForwardKind, kind_node(spec.kind), "kind", spec=spec)


def loss_of_nothing(outputs: tuple[Tensor, ...]) -> Tensor:
    """A zero that depends on every output, for micro-batches without loss tokens."""
    return torch.stack([output.sum() for output in outputs if output.requires_grad]).sum() * 0.0
