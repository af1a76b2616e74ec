"""Forward passes of one rank over its share of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from raylign.actors.learner.model import PackedInputs, packed_inputs
from raylign.actors.learner.spec import ForwardKind, RankTokens
from raylign.batch import Batch
from raylign.contracts import LossTerms, TokenView
from raylign.errors import LearnerError
from raylign.packing import MicroBatch

Run = Callable[[PackedInputs], tuple[Tensor, ...]]  # the model at a fixed temperature


def token_values(run: Run, plan: Iterable[MicroBatch], batch: Batch, device: torch.device) -> RankTokens:
    """The model's first output (log-probs or values) for every loss token of the plan, without gradient."""
    index: list[np.ndarray] = [np.zeros(0, np.int64)]
    values: list[np.ndarray] = [np.zeros(0, np.float32)]
    with torch.no_grad():
        for micro in plan:
            output = run(packed_inputs(micro, batch, device))[0]
            index.append(micro.token_index)
            values.append(output.float().cpu().numpy())
    return RankTokens(index=np.concatenate(index), values=np.concatenate(values))


def token_view(
    kind: ForwardKind, outputs: tuple[Tensor, ...], micro: MicroBatch, batch: Batch, device: torch.device
) -> TokenView:
    """The loss positions of a micro-batch with all streams of the batch gathered there."""
    streams = {name: torch.from_numpy(stream[micro.token_index]).to(device) for name, stream in batch.streams.items()}
    segment = torch.from_numpy(micro.segment).to(device)
    if kind is ForwardKind.CAUSAL_LM:
        logprob, entropy = outputs
        return TokenView(streams=streams, segment=segment, rows=len(micro.rows), logprob=logprob, entropy=entropy)
    return TokenView(streams=streams, segment=segment, rows=len(micro.rows), values=outputs[0])


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
