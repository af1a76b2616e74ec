"""A reward model: one number for each loss token, from the state of the token before it.

Training and scoring put one token that is never computed behind a row and the loss on it alone (`raylign.data.scored`),
so that the number is that of the row's last token, the end of its last turn included.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from raylign.actors.learner.forward import Run
from raylign.actors.learner.kinds.packed import PackedKind
from raylign.actors.learner.layouts import RowLayout, text_backbone
from raylign.actors.learner.loading import pretrained
from raylign.actors.learner.model import RELATIVE, PackedInputs, PackedModel
from raylign.actors.learner.passes import token_view
from raylign.actors.learner.spec import SCORE_STREAM
from raylign.batch import Batch
from raylign.contracts import TokenView
from raylign.models.scoring import HEAD, is_scoring
from raylign.packing import MicroBatch
from raylign.records import derive_seed


class ScalarOutput(nn.Linear):
    """A linear layer of one output that multiplies in fp32: bf16 would round scores of 4 by up to 0.01."""

    def forward(self, input: Tensor) -> Tensor:
        """[K, E] -> [K, 1]"""
        bias = None if self.bias is None else self.bias.float()
        return nn.functional.linear(input.float(), self.weight.float(), bias)


class ScoringModel(PackedModel):
    """A backbone below transformers' own scalar head, ``score``."""

    unit = RELATIVE

    def __init__(self, hf: PreTrainedModel, seed: int | None = None) -> None:
        """seed: of a head that the folder lacks; None: it has one."""
        super().__init__(hf)
        hf.score = _head_of(hf, seed)
        self.train_only([text_backbone(hf), hf.score])

    def forward(self, inputs: PackedInputs, states: bool = False) -> tuple[Tensor, ...]:
        """(scores [K],) in fp32; with `states`, or laid out plainly, the (hidden states [K, E],) below the head."""
        if self.layout is RowLayout.PLAIN:
            output = text_backbone(self.hf)(input_ids=inputs.token_ids, use_cache=False)
            return (output.last_hidden_state[0].index_select(0, inputs.predict_index),)
        hidden = self.predicting(inputs)
        return (hidden,) if states else (self.hf.score(hidden)[:, 0],)


class RewardModelKind(PackedKind):
    """Fills ``score``. Reads and writes ``*ForSequenceClassification`` folders of one label; of a causal language model
    it takes the backbone, below a new head.
    """

    streams = frozenset({SCORE_STREAM})
    model: ScoringModel

    def load(self) -> ScoringModel:
        """Raises ValueError on a model of several labels, a head of another kind, and a family without this class."""
        path = self.spec.model_path
        config = AutoConfig.from_pretrained(path, trust_remote_code=self.spec.trust_remote_code)
        stored = is_scoring({"architectures": config.architectures})
        if stored and config.num_labels != 1:
            raise ValueError(f"{path}: gives {config.num_labels} numbers to a text, and a reward model one")
        if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
            raise ValueError(
                f"{path}: transformers has no {config.model_type} with a scalar head "
                "(AutoModelForSequenceClassification); fix: start from a family that has one, e.g. llama or qwen3"
            )
        hf = pretrained(self.spec, _loader, made=() if stored else (HEAD,))
        self.model = ScoringModel(hf, None if stored else derive_seed(self.spec.seed, "score head"))
        return self.model

    def heads(self) -> Sequence[nn.Module]:
        """Its own: a language model has none that an adapter could start from."""
        return (self.model.hf.score,)

    def forward(self, run: Run, inputs: PackedInputs, entropy_grad: bool = False) -> tuple[Tensor, ...]:
        """Scores; there is no entropy."""
        return run(inputs)

    def view(self, outputs: tuple[Tensor, ...], micro: MicroBatch, batch: Batch, device: torch.device) -> TokenView:
        """With scores as its values."""
        return token_view(micro, batch, device, values=outputs[0])

    def fill(self, names: Collection[str], run: Run, inputs: PackedInputs) -> Mapping[str, Tensor]:
        """The score of each state."""
        return {SCORE_STREAM: run(inputs)[0]}


def _head_of(hf: PreTrainedModel, seed: int | None) -> ScalarOutput:
    """The head of a model, or with a seed a new one: normal with variance 1 / (E + 1), so that first scores are about
    as large as 1. Raises ValueError when it is no linear layer of one output.
    """
    old = dict(hf.named_children()).get("score")
    if not isinstance(old, nn.Linear) or old.out_features != 1:
        raise ValueError(f"{type(hf).__name__} has no linear layer `score` of one output, but {old}")
    head = ScalarOutput(old.in_features, 1, bias=old.bias is not None, dtype=hf.dtype)
    if seed is None:
        head.weight, head.bias = old.weight, old.bias
        return head
    numbers = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        head.weight.copy_(numbers / math.sqrt(old.in_features + 1))
        if head.bias is not None:
            head.bias.zero_()
    return head


def _loader(config: PretrainedConfig) -> type:
    config.num_labels = 1
    loader: type = AutoModelForSequenceClassification
    return loader
