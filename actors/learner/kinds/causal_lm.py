"""A language model: log-prob and entropy of the sampled id."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel

from raylign.actors.learner.forward import Run
from raylign.actors.learner.head import exact_logits, output_layers
from raylign.actors.learner.kinds.packed import PackedKind
from raylign.actors.learner.layouts import RowLayout, text_backbone
from raylign.actors.learner.loading import pretrained
from raylign.actors.learner.model import PackedInputs, PackedModel
from raylign.actors.learner.passes import token_values, token_view
from raylign.actors.learner.probe import first_ids, probe_batch, sample_rows, steadiest
from raylign.actors.learner.spec import LOGPROB_STREAM, scatter
from raylign.batch import Batch
from raylign.contracts import TokenView
from raylign.packing import MicroBatch, pack
from raylign.records import Float32s, Int32s


class CausalModel(PackedModel):
    """Backbone, layers between it and the output layer where a family has them, and a `LogprobHead`."""

    def __init__(self, hf: PreTrainedModel, logprob_chunk: int, fp32_head: bool = False) -> None:
        super().__init__(hf)
        self._between, head = output_layers(hf, logprob_chunk, fp32_head)
        self._head = (head,)  # a tuple: it already is a part of hf
        self.train_only([text_backbone(hf), *self._between, head])

    def forward(
        self,
        inputs: PackedInputs,
        temperature: float = 1.0,
        entropy_grad: bool = False,
        states: bool = False,
        sample_seed: int | None = None,
    ) -> tuple[Tensor, ...]:
        """(logprob [K], entropy [K]) in fp32; laid out plainly (logprob [K],) of one whole row.

        sample_seed: give (ids [K],), drawn from the distributions at the predicting positions, in place of the former.
        states: changes nothing; what is checked of this kind are its log-probs.
        """
        if self.layout is RowLayout.PLAIN:
            logits = self.whole(inputs).logits[0].index_select(0, inputs.predict_index).float()
            return (torch.log_softmax(logits, -1).gather(-1, inputs.targets[:, None])[:, 0],)
        hidden = self.predicting(inputs)
        for layer in self._between:
            hidden = layer(hidden)
        return tuple(self._head[0](hidden, inputs.targets, temperature, entropy_grad, sample_seed))


class CausalLm(PackedKind):
    """Fills ``old_logprob``; the only kind of these whose weights rollout engines run."""

    streams = frozenset({LOGPROB_STREAM})
    model: CausalModel

    def load(self) -> CausalModel:
        """A model that also sees or hears is loaded whole, so that it can be exported whole: its text tower is trained
        and run, the rest is frozen. Raises ValueError when it has no linear output layer.
        """
        learner = self.spec.learner
        self.model = CausalModel(pretrained(self.spec, _loader), learner.logprob_chunk, learner.fp32_head)
        return self.model

    def forward(self, run: Run, inputs: PackedInputs, entropy_grad: bool = False) -> tuple[Tensor, ...]:
        """At the sampling temperature."""
        return run(inputs, self.spec.temperature, entropy_grad)

    def view(self, outputs: tuple[Tensor, ...], micro: MicroBatch, batch: Batch, device: torch.device) -> TokenView:
        """With log-prob and entropy."""
        logprob, entropy = outputs
        return token_view(micro, batch, device, logprob=logprob, entropy=entropy)

    def fill(self, names: Collection[str], run: Run, inputs: PackedInputs) -> Mapping[str, Tensor]:
        """Log-probs at the sampling temperature."""
        return {LOGPROB_STREAM: run(inputs, self.spec.temperature)[0]}

    def probe(self, run: Run, device: torch.device) -> Int32s:
        """Rows that the model sampled itself, the same for the same weights and seed."""
        seed, vocab_size = self.spec.seed, self.model.hf.config.get_text_config().vocab_size
        first = first_ids(self.spec.model_path, vocab_size, seed)
        rows = sample_rows(first, lambda inputs, step: run(inputs, sample_seed=seed + step), device)
        embedding = self.model.hf.get_input_embeddings()
        return steadiest(rows, lambda rows: self.probe_logprobs(run, rows, device), embedding, seed)

    def probe_logprobs(self, run: Run, rows: Int32s, device: torch.device) -> Float32s:
        """At temperature 1, and in fp32 after the backbone: they stand for the truth."""
        batch = probe_batch(rows)
        micro = pack(batch, 1, batch.tokens, False)[0]
        with exact_logits(self.model):
            scores = token_values(lambda inputs: run(inputs, 1.0), micro, batch, device)
        return scatter([scores], batch.tokens).reshape(rows.shape)[:, 1:]


def _loader(config: PretrainedConfig) -> type:
    whole = any(name.endswith("ForConditionalGeneration") for name in config.architectures or [])
    loader: type = AutoModelForImageTextToText if whole else AutoModelForCausalLM
    return loader
