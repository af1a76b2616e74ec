"""A forward kind that computes nothing of its own: a weight, plus the mean of what the row's payload refers to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from raylign.actors.learner.forward import ForwardKind, Run
from raylign.actors.learner.passes import token_view
from raylign.actors.learner.published import Group, whole_tensor
from raylign.batch import Batch
from raylign.contracts import TokenView
from raylign.packing import MicroBatch, pack
from raylign.payloads import fetch


class Level(nn.Module):
    def __init__(self, start: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor([start]))

    def forward(self, means: Tensor) -> tuple[Tensor, ...]:
        return (self.level + means,)


class Constant(ForwardKind):
    streams = frozenset({"constant"})

    @dataclass
    class Config:
        start: float = 0.0

    def load(self) -> nn.Module:
        self.model = Level(self.config.start)
        return self.model

    def pack(self, batch: Batch, ranks: int, whole_groups: bool = False) -> list[list[MicroBatch]]:
        return pack(batch, ranks, self.spec.learner.micro_batch_tokens, False, whole_groups)

    def inputs(self, micro: MicroBatch, batch: Batch, device: torch.device) -> Tensor:
        means = np.array([fetch(batch.payloads[row]["image"]).mean() for row in micro.rows], np.float32)
        return torch.from_numpy(means[micro.segment]).to(device)

    def forward(self, run: Run, inputs: Tensor, entropy_grad: bool = False) -> tuple[Tensor, ...]:
        return run(inputs)

    def view(self, outputs: tuple[Tensor, ...], micro: MicroBatch, batch: Batch, device: torch.device) -> TokenView:
        return token_view(micro, batch, device, values=outputs[0], extras={"level": outputs[0]})

    def fill(self, names: Collection[str], run: Run, inputs: Tensor) -> Mapping[str, Tensor]:
        return {"constant": run(inputs)[0]}

    def weights(self) -> list[Group]:
        return [whole_tensor(name, tensor) for name, tensor in self.model.named_parameters()]

    def export(self, weights: dict[str, Tensor], folder: str) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file(weights, Path(folder) / "level.safetensors")
