"""How the rows of a micro-batch go through a backbone, and how transformers' attention is chosen for it.

- packed: all rows in one sequence, attention by segments, prompts shared. Every layer but attention must look at one
  token at a time.
- rows: one row after the other, each by itself, with the family's own attention and masks. Right for every causal
  model: state that runs along a sequence starts anew with each row.
- plain: the model's own forward on one whole row, logits and all. The yardstick of `exactness`, nothing trains so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from raylign.actors.learner.attention import NAME

if TYPE_CHECKING:
    from raylign.actors.learner.model import PackedInputs

EAGER = "eager"


class RowLayout(StrEnum):
    """The way that rows are computed."""

    PACKED = "packed"
    ROWS = "rows"
    PLAIN = "plain"


def hidden_states(backbone: nn.Module, inputs: PackedInputs, layout: RowLayout) -> Tensor:
    """[M, E] last hidden states of a micro-batch. The attention of `layout` must be set (see `use_attention`)."""
    if layout is RowLayout.PACKED:
        states: Tensor = backbone(
            input_ids=inputs.token_ids, position_ids=inputs.position_ids, use_cache=False, segments=inputs.segments
        ).last_hidden_state
        return states[0]
    parts = []
    for start, length, _, prefix in inputs.segments.rows:
        if prefix:
            raise ValueError("a row that shares its prompt cannot be computed by itself")
        row = inputs.token_ids[:, start : start + length]
        parts.append(backbone(input_ids=row, use_cache=False).last_hidden_state[0])
    return torch.cat(parts)


def use_attention(hf: PreTrainedModel, name: str) -> None:
    """Let every part of the model compute attention by this implementation.

    Families that chose theirs while they were built keep it.
    """
    for config in _configs(hf):
        config._attn_implementation_internal = name


@contextmanager
def attention(hf: PreTrainedModel, name: str) -> Iterator[None]:
    """`use_attention` for a while."""
    before = [(config, config._attn_implementation_internal) for config in _configs(hf)]
    use_attention(hf, name)
    try:
        yield
    finally:
        for config, earlier in before:
            config._attn_implementation_internal = earlier


def own_attention(hf: PreTrainedModel) -> str:
    """transformers' implementation for rows by themselves: the one it was loaded with, eager where sdpa is not exact.

    sdpa leaves out soft caps and sinks without a word.
    """
    loaded = str(hf.config._attn_implementation)
    special = ("attn_logit_softcapping", "softcap", "sinks")
    if any(getattr(part, name, None) is not None for part in hf.modules() for name in special):
        return EAGER
    return EAGER if loaded == NAME else loaded


def text_backbone(hf: PreTrainedModel) -> nn.Module:
    """The part that turns token ids into hidden states: the text tower of a multimodal model."""
    base = hf.base_model
    if base is hf and hf.get_output_embeddings() is not None:  # its prefix names no part of it, as with Llama 4
        embedding = hf.get_input_embeddings()
        base = next((part for part in hf.children() if any(inner is embedding for inner in part.modules())), hf)
    tower = getattr(base, "language_model", None)
    return tower if isinstance(tower, nn.Module) else base


def _configs(hf: PreTrainedModel) -> Iterable[PretrainedConfig]:
    configs = [getattr(module, "config", None) for module in hf.modules()]
    unique: dict[int, Any] = {id(config): config for config in configs if isinstance(config, PretrainedConfig)}
    return unique.values()
