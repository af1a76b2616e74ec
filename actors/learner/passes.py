"""Forward passes of one rank over its share of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raylign.actors.learner.model import PackedInputs, packed_inputs
from raylign.actors.learner.spec import RankTokens
from raylign.batch import Batch
from raylign.contracts import LossTerms, TokenView
from raylign.errors import LearnerError
from raylign.packing import MicroBatch

Run = Callable[[PackedInputs], tuple[Tensor, ...]]  # the model at a fixed temperature


def token_streams(
    fill: Callable[[MicroBatch], Mapping[str, Tensor]], names: Iterable[str], plan: Sequence[MicroBatch]
) -> dict[str, RankTokens]:
    """Named values for every loss token of the plan, without gradient. fill: those of one micro-batch, [K] each."""
    values: dict[str, list[np.ndarray]] = {name: [np.zeros(0, np.float32)] for name in names}
    with torch.no_grad():
        for micro in plan:
            tensors = fill(micro)
            for name, parts in values.items():
                parts.append(tensors[name].float().cpu().numpy())
    index = np.concatenate([np.zeros(0, np.int64), *(micro.token_index for micro in plan)])
    return {name: RankTokens(index=index, values=np.concatenate(parts)) for name, parts in values.items()}


def token_values(run: Run, plan: Sequence[MicroBatch], batch: Batch, device: torch.device) -> RankTokens:
    """A packed model's first output (log-probs or values) for every loss token of the plan, without gradient."""
    return token_streams(lambda micro: {"": run(packed_inputs(micro, batch, device))[0]}, [""], plan)[""]


def token_view(micro: MicroBatch, batch: Batch, device: torch.device, **outputs: Any) -> TokenView:
    """The loss positions of a micro-batch with all streams of the batch gathered there.

    outputs: fields of `TokenView` that the model gave.
    """
    streams = {name: torch.from_numpy(stream[micro.token_index]).to(device) for name, stream in batch.streams.items()}
    segment = torch.from_numpy(micro.segment).to(device)
    return TokenView(streams=streams, segment=segment, rows=len(micro.rows), **outputs)


@dataclass(slots=True)
class Totals:
    """Sums and maxima of loss terms over micro-batches, kept on the device until the end of the step."""

    components: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    maxima: dict[str, Tensor] = field(default_factory=dict)
    seen: list[tuple[np.ndarray, Tensor]] = field(default_factory=list)  # token indices and their log-probs

    def tokens(self) -> RankTokens | None:
        """The log-probs that the losses were taken of; None of a model that has none."""
        if not self.seen:
            return None
        index = np.concatenate([index for index, _ in self.seen])
        return RankTokens(index=index, values=torch.cat([values for _, values in self.seen]).float().cpu().numpy())

    def add(self, terms: LossTerms) -> None:
        """Take in the terms of one micro-batch."""
        _add(self.components, terms.components)
        _add(self.metrics, {name: value for name, value in terms.metrics.items() if not name.startswith("max/")})
        for name, value in terms.metrics.items():
            if name.startswith("max/"):
                maximum = value.detach().float()
                self.maxima[name] = torch.maximum(self.maxima[name], maximum) if name in self.maxima else maximum

    def sums(self, step: int) -> dict[str, float]:
        """Additive results, components as ``loss/<name>``. Raises LearnerError when a component is not finite."""
        losses = {f"loss/{name}": float(value) for name, value in self.components.items()}
        for name, value in losses.items():
            if not np.isfinite(value):
                raise LearnerError(f"step {step}: {name} is {value}; the step was not applied")
        total = sum(losses.values())
        return {"loss": total, **losses, **{name: float(value) for name, value in self.metrics.items()}}


def _add(totals: dict[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        total = value.detach().float()
        totals[name] = totals[name] + total if name in totals else total
