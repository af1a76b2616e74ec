"""What the shapes of families share: the record of a family, sizes, and short ways to write a family down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

VOCAB = 320
WINDOW = 8  # tokens; rows have up to 64
LAYERS = 4
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DENSE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
}
WIDE = DENSE | {"hidden_size": 128}  # where the head size is hidden / heads
LOCAL_MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
DELTA = {
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
SLIDE = ["sliding_attention", "full_attention"] * (LAYERS // 2)


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture in a tiny shape.

    Example: ``Family("mamba2", "mamba2", {"num_hidden_layers": 3}, state=True)``
    """

    name: str
    model_type: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    state: bool = False  # some layers carry a state along the row (recurrence, convolution)
    conditional: bool = False  # the text tower of a *ForConditionalGeneration checkpoint


def dense(name: str, settings: Mapping[str, Any] | None = None, kind: str = "", base: Any = DENSE) -> Family:
    """A family without state: `base` with these settings; `kind` is its model type where that is not its name."""
    return Family(name, kind or name, {**base, **(settings or {})})


def hybrid(name: str, settings: Mapping[str, Any], kind: str = "", base: Any = WIDE) -> Family:
    """The same for a family with layers that carry state."""
    return Family(name, kind or name, {**base, **settings}, state=True)
