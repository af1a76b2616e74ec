"""From the backbone's hidden states to logits: which layers a family has there, and what it does to their output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from raylign.actors.learner.layouts import text_backbone
from raylign.actors.learner.logprobs import LogitRule, LogprobHead

# Names under which families keep a factor, a divisor and a soft cap of their logits. One that is missing here, or that
# a family ignores, is found by `exactness`.
FACTORS = ("logit_scale", "lm_head_multiplier", "output_multiplier")
DIVISORS = ("logits_scaling",)
CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")


def output_layers(hf: PreTrainedModel, chunk: int, fp32: bool = False) -> tuple[list[nn.Module], LogprobHead]:
    """Put a `LogprobHead` in the place of the last linear layer; returns it and the layers before it.

    The layers before it are those that a few families have between backbone and output layer. Raises ValueError when
    the output layer is not linear.
    """
    linear = hf.get_output_embeddings()
    if not isinstance(linear, nn.Linear):
        raise ValueError(f"{type(hf).__name__} has no linear output layer (found {type(linear).__name__})")
    head = LogprobHead(linear, chunk, logit_rule(hf.config.get_text_config()), fp32)
    for parent in list(hf.modules()):
        for name, child in parent.named_children():
            if child is linear:
                setattr(parent, name, head)
    between = []
    for child in hf.children():
        inside = set(map(id, child.modules()))
        if id(text_backbone(hf)) not in inside and id(head) not in inside and any(True for _ in child.parameters()):
            between.append(child)
    return between, head


@contextmanager
def exact_logits(model: nn.Module) -> Iterator[None]:
    """Inside, every `LogprobHead` of the model multiplies in fp32, whatever it trains with."""
    heads = [(part, part.fp32) for part in model.modules() if isinstance(part, LogprobHead)]
    try:
        for head, _ in heads:
            head.fp32 = True
        yield
    finally:
        for head, fp32 in heads:
            head.fp32 = fp32


def logit_rule(config: PretrainedConfig) -> LogitRule:
    """The factor and the cap that a config names."""
    scale = 1.0
    for name in FACTORS:
        scale *= _number(config, name) or 1.0
    for name in DIVISORS:
        scale /= _number(config, name) or 1.0
    caps = [cap for name in CAPS if (cap := _number(config, name))]
    return LogitRule(scale, caps[0] if caps else None)


def _number(config: PretrainedConfig, name: str) -> float | None:
    value: Any = getattr(config, name, None)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
