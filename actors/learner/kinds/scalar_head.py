"""A critic: one number for each loss token, the value of the state before it is sampled."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from raylign.actors.learner.forward import Run
from raylign.actors.learner.kinds.packed import PackedKind
from raylign.actors.learner.layouts import RowLayout, text_backbone
from raylign.actors.learner.loading import pretrained
from raylign.actors.learner.model import RELATIVE, VALUE_HEAD, VALUE_HEAD_PREFIX, PackedInputs, PackedModel
from raylign.actors.learner.passes import token_view
from raylign.actors.learner.published import Group, whole_tensor
from raylign.actors.learner.spec import VALUE_STREAM
from raylign.batch import Batch
from raylign.contracts import TokenView
from raylign.packing import MicroBatch


class ValueModel(PackedModel):
    """A backbone below one linear output."""

    unit = RELATIVE

    def __init__(self, hf: PreTrainedModel) -> None:
        super().__init__(hf)
        # Zero weights: the first values are 0, the mean of a centred return, whatever the backbone says.
        self.value_head = nn.Linear(hf.config.get_text_config().hidden_size, 1, dtype=hf.dtype)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        self.train_only([text_backbone(hf)])

    def forward(self, inputs: PackedInputs, states: bool = False) -> tuple[Tensor, ...]:
        """(values [K],) in fp32; with `states`, or laid out plainly, the (hidden states [K, E],) below the head."""
        if self.layout is RowLayout.PLAIN:
            return (self.whole(inputs).last_hidden_state[0].index_select(0, inputs.predict_index),)
        hidden = self.predicting(inputs)
        return (hidden,) if states else (self.value_head(hidden)[:, 0].float(),)


class ScalarHead(PackedKind):
    """Fills ``value``."""

    streams = frozenset({VALUE_STREAM})
    model: ValueModel

    def load(self) -> ValueModel:
        """The backbone of whatever the folder holds, with the value head of an exported critic if there is one."""
        self.model = ValueModel(pretrained(self.spec, lambda config: AutoModel))
        stored = Path(self.spec.model_path) / VALUE_HEAD
        if stored.exists():
            dtype = getattr(torch, self.spec.dtype)
            self.model.value_head.load_state_dict({name: value.to(dtype) for name, value in load_file(stored).items()})
        return self.model

    def forward(self, run: Run, inputs: PackedInputs, entropy_grad: bool = False) -> tuple[Tensor, ...]:
        """Values; there is no entropy."""
        return run(inputs)

    def view(self, outputs: tuple[Tensor, ...], micro: MicroBatch, batch: Batch, device: torch.device) -> TokenView:
        """With values."""
        return token_view(micro, batch, device, values=outputs[0])

    def fill(self, names: Collection[str], run: Run, inputs: PackedInputs) -> Mapping[str, Tensor]:
        """The value of each state."""
        return {VALUE_STREAM: run(inputs)[0]}

    def weights(self) -> list[Group]:
        """Those of the backbone, and the head's, whose names begin with `VALUE_HEAD_PREFIX`."""
        head = self.model.value_head.named_parameters(VALUE_HEAD_PREFIX)
        return [*super().weights(), *(whole_tensor(name, weight) for name, weight in head)]
