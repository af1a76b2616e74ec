"""What kinds over packed token rows of a Hugging Face model have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from raylign.actors.learner.exactness import settle
from raylign.actors.learner.forward import Agree, ForwardKind, Run
from raylign.actors.learner.layouts import RowLayout
from raylign.actors.learner.model import PackedInputs, PackedModel, export_model, packed_inputs
from raylign.actors.learner.published import Group, published_groups
from raylign.batch import Batch
from raylign.packing import MicroBatch, pack, with_equal_segments


class PackedKind(ForwardKind):
    """Rows of tokens, packed where the model is exact so. `load` is left to subclasses."""

    model: PackedModel

    def settle(self, run: Run, device: torch.device, agree: Agree = lambda number: number) -> str:
        """Choose the layout in which the model is exact."""
        share = self.spec.learner.share_prompts
        return settle(self.model, share_prompts=share, run=run, device=device, agree=agree).note

    def pack(self, batch: Batch, ranks: int, whole_groups: bool = False) -> list[list[MicroBatch]]:
        """By the learner's budget; prompts are shared where the layout allows it."""
        learner, together = self.spec.learner, self.model.layout is RowLayout.PACKED
        plan = pack(batch, ranks, learner.micro_batch_tokens, learner.share_prompts and together, whole_groups)
        return plan if together else with_equal_segments(plan)

    def inputs(self, micro: MicroBatch, batch: Batch, device: torch.device) -> PackedInputs:
        """Token ids, positions and segments."""
        return packed_inputs(micro, batch, device)

    def weights(self) -> list[Group]:
        """Those of the Hugging Face model."""
        return published_groups(self.model.hf)

    def export(self, weights: dict[str, Tensor], folder: str) -> None:
        """A Hugging Face folder."""
        export_model(self.model, weights, self.spec.model_path, folder)
