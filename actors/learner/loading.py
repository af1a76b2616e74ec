"""A Hugging Face folder as a `PackedModel`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig

from raylign.actors.learner.model import VALUE_HEAD, PackedModel
from raylign.actors.learner.randomness import checkpoint_layers
from raylign.actors.learner.spec import ForwardKind, LearnerSpec


def load_model(spec: LearnerSpec) -> PackedModel:
    """Build the model of a spec from its Hugging Face folder or id.

    A critic starts from the backbone of whatever the folder holds, with the value head of an exported critic if there
    is one. A model that also sees or hears is loaded whole, so that it can be exported whole: its text tower is trained
    and run, the rest is frozen. Raises ValueError when the model has no linear output layer,
    and when the folder lacks a tensor of it.
    """
    kind, dtype, path = ForwardKind(spec.kind), getattr(torch, spec.dtype), spec.model_path
    config = AutoConfig.from_pretrained(path, trust_remote_code=spec.trust_remote_code)
    if getattr(config, "rescale_every", 0):
        config.rescale_every = 0  # RWKV would halve its weights in place in evaluation mode, against overflow in fp16
    hf, info = _loader(kind, config).from_pretrained(
        path, config=config, dtype=dtype, trust_remote_code=spec.trust_remote_code, output_loading_info=True
    )
    if lacking := sorted(info["missing_keys"]):  # transformers would go on with random numbers there
        raise ValueError(f"{path}: its weights lack {len(lacking)} tensors of the model, e.g. {lacking[0]}")
    model = PackedModel(hf, kind, spec.learner.logprob_chunk, spec.learner.fp32_head)
    if spec.learner.gradient_checkpointing:
        checkpoint_layers(hf)
    stored = Path(path) / VALUE_HEAD
    if kind is ForwardKind.SCALAR_HEAD and stored.exists():
        model.value_head.load_state_dict({name: tensor.to(dtype) for name, tensor in load_file(stored).items()})
    return model


def _loader(kind: ForwardKind, config: PretrainedConfig) -> Any:
    if kind is ForwardKind.SCALAR_HEAD:
        return AutoModel
    whole = any(name.endswith("ForConditionalGeneration") for name in config.architectures or [])
    return AutoModelForImageTextToText if whole else AutoModelForCausalLM
