"""Which tensors a model's layers hold and in which shapes, as its config.json says: for families that are plain enough.

What the config does not say is not compared; a family that is not listed is compared with itself alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ATTENTION = tuple(f"self_attn.{name}_proj.weight" for name in "qkvo")
MLP = tuple(f"mlp.{name}_proj.weight" for name in ("gate", "up", "down"))
BEFORE = ("input_layernorm.weight", "post_attention_layernorm.weight")
AROUND = ("pre_feedforward_layernorm.weight", "post_feedforward_layernorm.weight")
QK_NORMS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
QKV_BIASES = tuple(f"self_attn.{name}_proj.bias" for name in "qkv")
IGNORED = ("inv_freq", "k_scale", "v_scale", "masked_bias")  # ends of names of buffers that old exports hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Models of one kind. tensors: of each layer, besides what its settings add; empty: not compared."""

    architecture: str
    tensors: tuple[str, ...] = ()
    tied: bool = False  # where config.json does not say
    head_dim: int = 0  # where config.json does not say; 0: the heads divide the hidden size


FAMILIES = {
    "llama": Family(architecture="LlamaForCausalLM", tensors=(*ATTENTION, *MLP, *BEFORE)),
    "mistral": Family(architecture="MistralForCausalLM", tensors=(*ATTENTION, *MLP, *BEFORE)),
    "qwen2": Family(architecture="Qwen2ForCausalLM", tensors=(*ATTENTION, *MLP, *BEFORE, *QKV_BIASES)),
    "qwen3": Family(architecture="Qwen3ForCausalLM", tensors=(*ATTENTION, *MLP, *BEFORE, *QK_NORMS), head_dim=128),
    "gemma": Family(
        architecture="GemmaForCausalLM", tensors=(*ATTENTION, *MLP, *BEFORE), tied=True, head_dim=256
    ),
    "gemma2": Family(
        architecture="Gemma2ForCausalLM", tensors=(*ATTENTION, *MLP, *BEFORE, *AROUND), tied=True, head_dim=256
    ),
    "gemma3_text": Family(
        architecture="Gemma3ForCausalLM", tensors=(*ATTENTION, *MLP, *BEFORE, *AROUND, *QK_NORMS), tied=True,
        head_dim=256,
    ),
    "olmo2": Family(
        architecture="Olmo2ForCausalLM", tensors=(*ATTENTION, *MLP, *QK_NORMS, BEFORE[1], AROUND[1])
    ),
    "phi3": Family(
        architecture="Phi3ForCausalLM",
        tensors=("self_attn.qkv_proj.weight", ATTENTION[3], "mlp.gate_up_proj.weight", MLP[2], *BEFORE),
    ),
    "granite": Family(architecture="GraniteForCausalLM", tensors=(*ATTENTION, *MLP, *BEFORE)),
    "qwen2_moe": Family(architecture="Qwen2MoeForCausalLM"),
    "qwen3_moe": Family(architecture="Qwen3MoeForCausalLM", head_dim=128),
    "mixtral": Family(architecture="MixtralForCausalLM"),
}  # fmt: skip
WITH_BIASES = ("llama", "granite", "qwen3")  # whose attention has biases where attention_bias says so


def layer_tensors(kind: str, fields: Mapping[str, Any]) -> frozenset[str]:
    """Names of a layer's tensors, below the layer; empty where the family is not known so well."""
    family = FAMILIES.get(kind)
    if family is None or not family.tensors:
        return frozenset()
    names = set(family.tensors)
    if kind in WITH_BIASES and fields.get("attention_bias"):
        names |= {*QKV_BIASES, "self_attn.o_proj.bias"}
    if kind in WITH_BIASES and kind != "qwen3" and fields.get("mlp_bias"):
        names |= {name.replace(".weight", ".bias") for name in MLP}
    return frozenset(names)


def head_size(kind: str, fields: Mapping[str, Any]) -> int:
    """Width of one attention head, 0 where nothing says it."""
    family = FAMILIES.get(kind)
    hidden, heads, told = _counts(fields, "hidden_size", "num_attention_heads", "head_dim")
    return told or (family.head_dim if family else 0) or (hidden // heads if heads else 0)


def expected_shapes(kind: str, fields: Mapping[str, Any]) -> dict[str, tuple[tuple[int, int], str]]:
    """Of a layer's matrices: shape [outputs, inputs], and the settings that it follows from.

    Example: ``{"mlp.down_proj.weight": ((1024, 3072), "hidden_size=1024, intermediate_size=3072")}``
    """
    hidden, heads, kv_heads = _counts(fields, "hidden_size", "num_attention_heads", "num_key_value_heads")
    if kind not in FAMILIES or not hidden:
        return {}
    shapes: dict[str, tuple[tuple[int, int], str]] = {}
    width = head_size(kind, fields)
    if heads:
        why = f"num_attention_heads={heads}, head_dim={width}"
        shapes[ATTENTION[0]] = (heads * width, hidden), why
        shapes[ATTENTION[3]] = (hidden, heads * width), why
    if kv_heads:
        why = f"num_key_value_heads={kv_heads}, head_dim={width}"
        shapes |= dict.fromkeys(ATTENTION[1:3], ((kv_heads * width, hidden), why))
    if heads and kv_heads:
        why = f"num_attention_heads={heads}, num_key_value_heads={kv_heads}, head_dim={width}"
        shapes["self_attn.qkv_proj.weight"] = ((heads + 2 * kv_heads) * width, hidden), why
    return shapes | _mlp_shapes(fields, hidden)


def _mlp_shapes(fields: Mapping[str, Any], hidden: int) -> dict[str, tuple[tuple[int, int], str]]:
    shapes: dict[str, tuple[tuple[int, int], str]] = {}
    experts = tuple(f"block_sparse_moe.experts.0.{name}.weight" for name in ("w1", "w3", "w2"))
    for key, (gate, up, down) in (
        ("intermediate_size", MLP),
        ("intermediate_size", experts),
        ("moe_intermediate_size", tuple(name.replace("mlp", "mlp.experts.0") for name in MLP)),
    ):
        (width,) = _counts(fields, key)
        if width:
            why = f"hidden_size={hidden}, {key}={width}"
            shapes |= dict.fromkeys((gate, up), ((width, hidden), why))
            shapes[down] = (hidden, width), why
            if key == "intermediate_size":
                shapes["mlp.gate_up_proj.weight"] = (2 * width, hidden), why
    for key, name in (("num_experts", "mlp.gate.weight"), ("num_local_experts", "block_sparse_moe.gate.weight")):
        (count,) = _counts(fields, key)
        if count:
            shapes[name] = (count, hidden), f"hidden_size={hidden}, {key}={count}"
    return shapes


def _counts(fields: Mapping[str, Any], *names: str) -> list[int]:
    """Settings that are whole numbers above 0; 0 for the others."""
    values = [fields.get(name) for name in names]
    return [value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0 for value in values]
