"""The same function in every pass: no dropout, no layer drop, no router noise, whatever form a family gives them.

Ratios of log-probs need it. Families draw random numbers in many ways (modules, functional calls, attributes, configs,
sampling routers), and all of them ask `training` first. So the Hugging Face model stays in evaluation mode for ever, in
updates too, and the one thing that also asks `training`, gradient checkpointing, is put around its layers here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


def checkpoint_layers(hf: PreTrainedModel) -> None:
    """Keep only the inputs of each layer for the backward pass, which computes the layer again.

    Raises ValueError for a model without such layers.
    """
    layers = [module for module in hf.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ValueError(
            f"{type(hf).__name__} has no layers that can be computed again; set learner.gradient_checkpointing=false"
        )
    for layer in layers:
        layer.forward = _recomputed(layer.forward)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        # Nothing random happens inside, so there is no random state to keep.
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return call
