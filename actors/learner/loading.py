"""A Hugging Face folder as the model of a spec."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from raylign.actors.learner.forward import forward_kind
from raylign.actors.learner.randomness import checkpoint_layers
from raylign.actors.learner.spec import LearnerSpec


def load_model(spec: LearnerSpec) -> Any:
    """The model of a spec, as its forward kind loads it."""
    return forward_kind(spec).load()


def pretrained(
    spec: LearnerSpec, loader: Callable[[PretrainedConfig], Any], made: Collection[str] = ()
) -> PreTrainedModel:
    """A Hugging Face model by its folder or id. loader: the auto class for a config, which it may change first; made:
    tensors that the caller makes where the folder lacks them.

    Raises ValueError when the folder lacks any other tensor of the model.
    """
    dtype, path = getattr(torch, spec.dtype), spec.model_path
    config = AutoConfig.from_pretrained(path, trust_remote_code=spec.trust_remote_code)
    if getattr(config, "rescale_every", 0):
        config.rescale_every = 0  # RWKV would halve its weights in place in evaluation mode, against overflow in fp16
    hf, info = loader(config).from_pretrained(
        path, config=config, dtype=dtype, trust_remote_code=spec.trust_remote_code, output_loading_info=True
    )
    if lacking := sorted(set(info["missing_keys"]) - set(made)):  # transformers would go on with random numbers there
        raise ValueError(f"{path}: its weights lack {len(lacking)} tensors of the model, e.g. {lacking[0]}")
    if spec.learner.gradient_checkpointing:
        checkpoint_layers(hf)
    model: PreTrainedModel = hf
    return model
