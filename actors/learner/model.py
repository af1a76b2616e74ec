"""Forward kinds over packed micro-batches: a Hugging Face model as one module that returns per-loss-token tensors.

Both kinds run the backbone on the packed row as a batch of one with explicit positions, and gather the hidden states
at the predicting positions before the head, so that prompts never get logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from raylign.actors.learner.attention import NAME, SegmentTable
from raylign.actors.learner.logprobs import LogprobHead
from raylign.actors.learner.spec import ForwardKind, LearnerSpec
from raylign.columns import Columns
from raylign.packing import MicroBatch

VALUE_HEAD = "value_head.safetensors"  # beside the backbone in an exported critic
# Transformations between hidden state and logits that LogprobHead does not compute, and their neutral values.
LOGIT_SETTINGS = {"final_logit_softcapping": (None,), "logits_scaling": (None, 1, 1.0), "logit_scale": (None, 1, 1.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedInputs:
    """One micro-batch on the device."""

    token_ids: Tensor  # [1, M]
    position_ids: Tensor  # [1, M]
    segments: SegmentTable
    predict_index: Tensor  # [K]
    targets: Tensor  # [K] ids of the loss tokens


def packed_inputs(micro: MicroBatch, batch: Columns, device: torch.device) -> PackedInputs:
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
    """

    def __init__(self, hf: PreTrainedModel, kind: ForwardKind, logprob_chunk: int, fp32_head: bool = False) -> None:
        super().__init__()
        self.kind = kind
        self.hf = hf
        if kind is ForwardKind.CAUSAL_LM:
            hf.set_output_embeddings(LogprobHead(_linear_head(hf), logprob_chunk, fp32_head))
        else:
            # Zero weights: the first values are 0, the mean of a centred return, whatever the backbone says.
            self.value_head = nn.Linear(hf.config.hidden_size, 1, dtype=hf.dtype)
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)

    def forward(
        self,
        inputs: PackedInputs,
        temperature: float = 1.0,
        entropy_grad: bool = False,
        sample_seed: int | None = None,
    ) -> tuple[Tensor, ...]:
        """(logprob [K], entropy [K]) in fp32 for causal_lm, (values [K],) in fp32 for scalar_head.

        sample_seed: give (ids [K],), drawn from the distributions at the predicting positions, in place of the former.
        """
        backbone = self.hf.base_model
        states = backbone(
            input_ids=inputs.token_ids, position_ids=inputs.position_ids, use_cache=False, segments=inputs.segments
        ).last_hidden_state
        hidden = states[0].index_select(0, inputs.predict_index)
        if self.kind is ForwardKind.CAUSAL_LM:
            head = self.hf.get_output_embeddings()
            return tuple(head(hidden, inputs.targets, temperature, entropy_grad, sample_seed))
        return (self.value_head(hidden)[:, 0].float(),)

    def named_weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters under their Hugging Face names; a tied head comes once, under the embedding's name."""
        yield from self.hf.named_parameters()

    def loss_of_nothing(self, outputs: tuple[Tensor, ...]) -> Tensor:
        """A zero that depends on every output, for micro-batches without loss tokens."""
        return torch.stack([output.sum() for output in outputs if output.requires_grad]).sum() * 0.0


def load_model(spec: LearnerSpec) -> PackedModel:
    """Build the packed model of a spec from its Hugging Face folder or id.

    A critic starts from the backbone of whatever the folder holds, with the value head of an exported critic if there
    is one. Dropout is switched off: ratios of log-probs need the same function in every pass. Raises ValueError when
    the model's logits are more than a linear map of its hidden states, or its attention cannot be replaced.
    """
    kind, dtype, path = ForwardKind(spec.kind), getattr(torch, spec.dtype), spec.model_path
    loader = AutoModelForCausalLM if kind is ForwardKind.CAUSAL_LM else AutoModel
    hf = loader.from_pretrained(path, dtype=dtype, attn_implementation=NAME, trust_remote_code=spec.trust_remote_code)
    _check_supported(hf.config)
    for module in hf.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if spec.learner.gradient_checkpointing:
        hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model = PackedModel(hf, kind, spec.learner.logprob_chunk, spec.learner.fp32_head)
    stored = Path(path) / VALUE_HEAD
    if kind is ForwardKind.SCALAR_HEAD and stored.exists():
        model.value_head.load_state_dict({name: tensor.to(dtype) for name, tensor in load_file(stored).items()})
    return model


def export_model(model: PackedModel, weights: dict[str, Tensor], source: str, folder: str) -> None:
    """Write a Hugging Face folder: safetensors, config, generation config, tokenizer, chat template.

    weights: full tensors by the names of `PackedModel.state_dict` (with the ``hf.`` prefix), tied head once. The
    tokenizer is copied from `source`; a folder without one gives a folder without one.
    """
    backbone = {name.removeprefix("hf."): tensor for name, tensor in weights.items() if name.startswith("hf.")}
    model.hf.save_pretrained(folder, state_dict=backbone)
    head = {name.removeprefix("value_head."): t for name, t in weights.items() if name.startswith("value_head.")}
    if head:
        save_file(head, Path(folder) / VALUE_HEAD)
    if (tokenizer := load_tokenizer(source)) is not None:
        tokenizer.save_pretrained(folder)


def load_tokenizer(path: str) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a folder or id, or None for a folder that holds none."""
    if Path(path).is_dir() and not any(Path(path).glob("tokenizer*")):
        return None
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
    return tokenizer


def _linear_head(hf: PreTrainedModel) -> nn.Linear:
    head = hf.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ValueError(f"{type(hf).__name__} has no linear output layer (found {type(head).__name__})")
    return head


def _check_supported(config: PretrainedConfig) -> None:
    for name, neutral in LOGIT_SETTINGS.items():
        if getattr(config, name, None) not in neutral:
            raise ValueError(
                f"{config.model_type} sets {name}={getattr(config, name)}, which the learner cannot compute"
            )
