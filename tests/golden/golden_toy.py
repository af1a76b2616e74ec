"""Random batches, and the learner's arithmetic reduced to its bones: gather, forward, sum over micro-batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from raylign import testing
from raylign.batch import Batch
from raylign.contracts import Objective, TokenView
from raylign.packing import MicroBatch, pack
from raylign.testing.random_data import VOCAB

random_batch = partial(testing.random_batch, dtype=np.float64)


def current_logprobs(batch: Batch, seed: int = 9, scale: float = 0.3) -> torch.Tensor:
    """[N] float64 leaf: the old log-prob plus noise."""
    rng = np.random.default_rng(seed)
    return torch.tensor(batch["old_logprob"] + scale * rng.standard_normal(batch.tokens), requires_grad=True)


def ragged(batch: Batch, stream: Any) -> list[list[float]]:
    """The loss tokens of a [N] stream, by row."""
    values = np.asarray(stream, np.float64)
    spans = zip(batch.offsets[:-1], batch.offsets[1:], strict=True)
    return [values[a:b][batch["loss_mask"][a:b]].tolist() for a, b in spans]


def view(batch: Batch, micro: MicroBatch, **tensors: torch.Tensor | None) -> TokenView:
    """The loss positions of one micro-batch; `tensors` are already of length K."""
    streams = {
        name: torch.from_numpy(np.array(stream[micro.token_index], np.float64))
        for name, stream in batch.streams.items()
        if stream.dtype.kind in "fi"
    }
    segment = torch.from_numpy(micro.segment)
    return TokenView(streams=streams, segment=segment, rows=len(micro.rows), **tensors)


def evaluate(
    objective: Objective, batch: Batch, plan: Sequence[Sequence[MicroBatch]] | None = None, **flat: torch.Tensor
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Components and metrics of a batch, from flat [N] tensors, summed over all micro-batches of all ranks."""
    prepared = objective.prepare(batch)
    components: dict[str, torch.Tensor] = {}
    metrics: dict[str, float] = {}
    for micro in (micro for rank in plan or pack(batch, 1, 10**6, True) for micro in rank):
        index = torch.from_numpy(micro.token_index)
        terms = objective.terms(view(prepared, micro, **{name: tensor[index] for name, tensor in flat.items()}))
        for name, value in terms.components.items():
            components[name] = components.get(name, torch.zeros((), dtype=torch.float64)) + value
        merge(metrics, terms.metrics)
    return components, metrics


def merge(metrics: dict[str, float], more: Mapping[str, torch.Tensor]) -> None:
    """Sum, or maximum for names that start with max/."""
    for name, value in more.items():
        number = float(value)
        if name.startswith("max/"):
            metrics[name] = max(metrics.get(name, 0.0), number)
        else:
            metrics[name] = metrics.get(name, 0.0) + number


class ToyModel(torch.nn.Module):
    """A linear language model whose state is the mean of the visible embeddings: it sees exactly its own context."""

    def __init__(self, seed: int = 0, width: int = 5) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embed = torch.nn.Parameter(torch.randn(VOCAB, width, generator=generator, dtype=torch.float64))
        self.place = torch.nn.Parameter(torch.randn(64, width, generator=generator, dtype=torch.float64))
        self.head = torch.nn.Parameter(torch.randn(width, VOCAB + 1, generator=generator, dtype=torch.float64))

    def forward(self, batch: Batch, micro: MicroBatch) -> dict[str, torch.Tensor]:
        """[K] log-prob, entropy and value at the loss tokens."""
        tokens, positions = torch.from_numpy(micro.token_ids), torch.from_numpy(micro.position_ids)
        state = self.embed[tokens] + self.place[positions]
        visible = torch.zeros(len(tokens), len(tokens), dtype=torch.float64)
        for start, length, prefix_start, prefix_length in micro.segments:
            visible[start : start + length, start : start + length] = torch.tril(
                torch.ones(int(length), int(length), dtype=torch.float64)
            )
            visible[start : start + length, prefix_start : prefix_start + prefix_length] = 1.0
        hidden = torch.tanh((visible / visible.sum(1, keepdim=True)) @ state)
        output = hidden[torch.from_numpy(micro.predict_index)] @ self.head
        logp = torch.log_softmax(output[:, :VOCAB], dim=-1)
        chosen = torch.from_numpy(batch["token_ids"][micro.token_index].astype(np.int64))
        return {
            "logprob": logp.gather(1, chosen[:, None])[:, 0],
            "entropy": -(logp.exp() * logp).sum(-1),
            "values": output[:, VOCAB],
        }
