"""A Hugging Face model over packed micro-batches: one module that returns per-loss-token tensors.

It runs the backbone (see `layouts`) and gathers the hidden states at the predicting positions before the head, so that
prompts never get logits. What stands above the backbone is a matter of the forward kind (see `kinds`).
"""

from __future__ import annotations

import shutil
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from raylign.actors.learner.attention import NAME, SegmentTable
from raylign.actors.learner.layouts import (
    EAGER,
    RowLayout,
    hidden_states,
    own_attention,
    text_backbone,
    use_attention,
)
from raylign.batch import Batch
from raylign.packing import MicroBatch

PROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
VALUE_HEAD = "value_head.safetensors"  # beside the backbone in an exported critic
VALUE_HEAD_PREFIX = "value_head"  # of its weights among those of a critic
RELATIVE = "of their length"  # see `PackedModel.unit`


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedInputs:
    """One micro-batch on the device."""

    token_ids: Tensor  # [1, M]
    position_ids: Tensor  # [1, M]
    segments: SegmentTable
    predict_index: Tensor  # [K]
    targets: Tensor  # [K] ids of the loss tokens


def packed_inputs(micro: MicroBatch, batch: Batch, device: torch.device) -> PackedInputs:
    """Move a micro-batch to the device. Works with K = 0 (a dummy)."""
    targets = batch["token_ids"][micro.token_index].astype("int64")
    return PackedInputs(
        token_ids=torch.from_numpy(micro.token_ids)[None].to(device),
        position_ids=torch.from_numpy(micro.position_ids)[None].to(device),
        segments=SegmentTable(micro.segments),
        predict_index=torch.from_numpy(micro.predict_index).to(device),
        targets=torch.from_numpy(targets).to(device),
    )


class PackedModel(nn.Module):
    """What DeepSpeed trains: a Hugging Face model plus the way it is run.

    `hf` is the Hugging Face model (its names are the published ones). `layout` is how rows are computed;
    `exactness.settle` chooses it. hf never leaves evaluation mode (see `randomness`).
    """

    unit: ClassVar[str] = "nat"  # of what two first outputs differ by; RELATIVE: over the length of the vector

    def __init__(self, hf: PreTrainedModel) -> None:
        super().__init__()
        self.hf = hf.eval()
        self.own_attention = own_attention(hf)
        self.layout = RowLayout.PACKED

    def train_only(self, parts: Iterable[nn.Module]) -> None:
        """Freeze all weights of `hf` but those of some of its modules."""
        self.hf.requires_grad_(False)
        for part in parts:
            part.requires_grad_(True)

    @property
    def layout(self) -> RowLayout:
        """How rows are computed."""
        return self._layout

    @layout.setter
    def layout(self, layout: RowLayout) -> None:
        self._layout = layout
        names = {RowLayout.PACKED: NAME, RowLayout.ROWS: self.own_attention, RowLayout.PLAIN: EAGER}
        use_attention(self.hf, names[layout])

    def train(self, mode: bool = True) -> PackedModel:
        """Only the marks of this module and of what stands above hf change."""
        super().train(mode)
        self.hf.eval()
        return self

    @abstractmethod
    def forward(self, inputs: PackedInputs, *, states: bool = False) -> tuple[Tensor, ...]:
        """Tensors of length K, the first of which the check at load compares.

        states: give what is compared, where that is not the output. In the layout PLAIN only that, for one whole row.
        """

    def predicting(self, inputs: PackedInputs) -> Tensor:
        """[K, E] hidden states at the predicting positions, packed or row by row."""
        return hidden_states(text_backbone(self.hf), inputs, self.layout).index_select(0, inputs.predict_index)

    def whole(self, inputs: PackedInputs) -> Any:
        """The output of the Hugging Face model's own forward over one whole row."""
        return self.hf(input_ids=inputs.token_ids, use_cache=False)


def export_model(model: PackedModel, weights: Mapping[str, Tensor], source: str, folder: str) -> None:
    """Write a Hugging Face folder: safetensors, config, generation config, tokenizer, chat template.

    weights: whole tensors by their names in a checkpoint (`published.published_groups`), each with memory of its own;
    those of a value head begin with `VALUE_HEAD_PREFIX`. The tokenizer is copied from `source`; a folder without one
    gives a folder without one. So are the settings of what prepares images, sounds and videos.
    """
    prefix = f"{VALUE_HEAD_PREFIX}."
    backbone = {name: tensor for name, tensor in weights.items() if not name.startswith(prefix)}
    head = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    model.hf.save_pretrained(folder, state_dict=backbone, save_original_format=False)  # empties the dict
    if head:
        save_file(head, Path(folder) / VALUE_HEAD)
    if (tokenizer := load_tokenizer(source)) is not None:
        tokenizer.save_pretrained(folder)
    for name in PROCESSORS:
        if (file := Path(source) / name).exists():
            shutil.copy(file, Path(folder) / name)


def load_tokenizer(path: str) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a folder or id, or None for a folder that holds none."""
    if Path(path).is_dir() and not any(Path(path).glob("tokenizer*")):
        return None
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
    return tokenizer
