"""Forward kinds over packed micro-batches: a Hugging Face model as one module that returns per-loss-token tensors.

Both kinds run the backbone (see `layouts`) and gather the hidden states at the predicting positions before the head, so
that prompts never get logits.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from raylign.actors.learner.attention import NAME, SegmentTable
from raylign.actors.learner.head import output_layers
from raylign.actors.learner.layouts import (
    EAGER,
    RowLayout,
    hidden_states,
    own_attention,
    text_backbone,
    use_attention,
)
from raylign.actors.learner.spec import ForwardKind
from raylign.batch import Batch
from raylign.packing import MicroBatch

PROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
VALUE_HEAD = "value_head.safetensors"  # beside the backbone in an exported critic
VALUE_HEAD_PREFIX = "value_head"  # of its weights among those of a critic


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

    `hf` is the Hugging Face model (its names are the published ones); `value_head` exists for scalar_head only.
    `layout` is how rows are computed; `exactness.settle` chooses it. hf never leaves evaluation mode (see
    `randomness`). Weights outside the text tower are frozen.
    """

    def __init__(self, hf: PreTrainedModel, kind: ForwardKind, logprob_chunk: int, fp32_head: bool = False) -> None:
        super().__init__()
        self.kind = kind
        self.hf = hf.eval()
        self.own_attention = own_attention(hf)
        self.layout = RowLayout.PACKED
        trained = [text_backbone(hf)]
        if kind is ForwardKind.CAUSAL_LM:
            self._between, head = output_layers(hf, logprob_chunk, fp32_head)
            self._head = (head,)  # a tuple: it already is a part of hf
            trained += [*self._between, head]
        else:
            # Zero weights: the first values are 0, the mean of a centred return, whatever the backbone says.
            self.value_head = nn.Linear(hf.config.get_text_config().hidden_size, 1, dtype=hf.dtype)
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)
        hf.requires_grad_(False)
        for part in trained:
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
        """Only the marks of this module and of the value head change."""
        super().train(mode)
        self.hf.eval()
        return self

    def forward(
        self,
        inputs: PackedInputs,
        temperature: float = 1.0,
        entropy_grad: bool = False,
        states: bool = False,
        sample_seed: int | None = None,
    ) -> tuple[Tensor, ...]:
        """(logprob [K], entropy [K]) in fp32 for causal_lm, (values [K],) in fp32 for scalar_head.

        sample_seed: give (ids [K],), drawn from the distributions at the predicting positions, in place of the former.
        With `states` a scalar_head gives the (hidden states [K, E],) below its head instead.
        """
        if self.layout is RowLayout.PLAIN:
            return self._plain(inputs)
        hidden = hidden_states(text_backbone(self.hf), inputs, self.layout).index_select(0, inputs.predict_index)
        if self.kind is ForwardKind.CAUSAL_LM:
            for layer in self._between:
                hidden = layer(hidden)
            return tuple(self._head[0](hidden, inputs.targets, temperature, entropy_grad, sample_seed))
        return (hidden,) if states else (self.value_head(hidden)[:, 0].float(),)

    def _plain(self, inputs: PackedInputs) -> tuple[Tensor, ...]:
        """(logprob [K],) or (hidden states [K, E],) of one whole row by the Hugging Face model's own forward."""
        output = self.hf(input_ids=inputs.token_ids, use_cache=False)
        if self.kind is ForwardKind.SCALAR_HEAD:
            return (output.last_hidden_state[0].index_select(0, inputs.predict_index),)
        logits = output.logits[0].index_select(0, inputs.predict_index).float()
        return (torch.log_softmax(logits, -1).gather(-1, inputs.targets[:, None])[:, 0],)

    def loss_of_nothing(self, outputs: tuple[Tensor, ...]) -> Tensor:
        """A zero that depends on every output, for micro-batches without loss tokens."""
        return torch.stack([output.sum() for output in outputs if output.requires_grad]).sum() * 0.0


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
