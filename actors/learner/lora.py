"""Low-rank adapters in a model that is trained: put in by peft, merged into the checkpoint's weights, saved for peft.

    W [out, in]   ──merged──►   W + alpha / rank B A      A [rank, in] random, B [out, rank] zeros at first

The modules of a model that hold an adapter keep their weight one level deeper (``q_proj.base_layer.weight``) than the
checkpoint; here is who knows that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftConfig
from peft import inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from raylign.config.schema import LoraConfig
from raylign.weights import Shape, dtype_name

NAME = "default"  # of the adapter within peft's layers
BASE = ".base_layer."
ROUTERS = ("gate", "router", "shared_expert_gate")  # choose experts; engines take no adapters of them
EXPERTS = ("gate_proj", "up_proj", "down_proj", "w1", "w2", "w3")  # where experts are fused, dense layers so named too
FOLDER = "adapter"  # below an exported model
PREFIX = "base_model.model."  # of peft's names
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """What is added to the weight of one linear layer: scale B A.

    Example: ``Adapter(a=torch.zeros(8, 64), b=torch.zeros(128, 8), scale=4.0)`` of a layer from 64 to 128 numbers
    """

    a: nn.Parameter  # [rank, in]
    b: nn.Parameter  # [out, rank]
    scale: float


def inject(hf: PreTrainedModel, backbone: nn.Module, config: LoraConfig, heads: Sequence[nn.Module] = ()) -> None:
    """Give linear layers of the backbone adapters, and train nothing else but `heads`.

    Raises ValueError where a target is no linear layer of it, naming those that are.
    """
    names = [name for name, module in backbone.named_modules() if type(module) is nn.Linear and name]
    left_out = {*ROUTERS, *(EXPERTS if any(parameter.dim() == 3 for parameter in backbone.parameters()) else ())}
    chosen = [name for name in names if _last(name) not in left_out]
    if config.targets:
        absent = sorted(set(config.targets) - {_last(name) for name in chosen})
        if absent:
            there = ", ".join(sorted({_last(name) for name in chosen})) or "none"
            raise ValueError(
                f"lora.targets names {absent[0]}, which is no linear layer of {type(hf).__name__} that takes an "
                f"adapter; there are: {there}"
            )
        chosen = [name for name in chosen if _last(name) in config.targets]
    if not chosen:
        raise ValueError(f"{type(hf).__name__} has no linear layer that can take an adapter; set lora.rank=0")
    alpha: Any = config.alpha  # need not be whole, whatever peft's signature says
    settings = PeftConfig(
        r=config.rank,
        lora_alpha=alpha,
        lora_dropout=config.dropout,
        target_modules=[f"inner.{name}" for name in chosen],
        bias="none",
    )
    inject_adapter_in_model(settings, _Plain(backbone), adapter_name=NAME)
    hf.requires_grad_(False)
    for adapter in adapters(hf).values():
        adapter.a.requires_grad_(True)
        adapter.b.requires_grad_(True)
    for head in heads:
        head.requires_grad_(True)
    hf.eval()


class _Plain(nn.Module):
    """A backbone whose family peft does not know: of one with experts it would adapt other layers than it is told."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.inner = backbone


def adapters(hf: nn.Module) -> dict[str, Adapter]:
    """By the name in memory that its layer's weight had before."""
    held: dict[str, Adapter] = {}
    for name, layer in hf.named_modules():
        if isinstance(layer, LoraLayer):
            a: Any = layer.lora_A[NAME]
            b: Any = layer.lora_B[NAME]
            held[f"{name}.weight"] = Adapter(a=a.weight, b=b.weight, scale=float(layer.scaling[NAME]))
    return held


def without_adapters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state without what adapters hold, under the names that it had before they came."""
    return {
        name.replace(BASE, "."): tensor
        for name, tensor in tensors.items()
        if ".lora_A." not in name and ".lora_B." not in name
    }


def merged(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """W + scale B A, summed in fp32; W itself, bit by bit, where nothing is added."""
    added = scale * (b.float() @ a.float())
    return torch.where(added == 0, weight, (weight.float() + added).to(weight.dtype))


@contextmanager
def muted(hf: nn.Module) -> Iterator[None]:
    """Meanwhile adapters add nothing, to what is computed and to what is merged."""
    layers = [layer for layer in hf.modules() if isinstance(layer, LoraLayer)]
    scales = [layer.scaling[NAME] for layer in layers]
    try:
        for layer in layers:
            layer.scaling[NAME] = 0.0
        yield
    finally:
        for layer, scale in zip(layers, scales, strict=True):
            layer.scaling[NAME] = scale


def drop_out(hf: nn.Module) -> None:
    """Drop inputs of adapters at random from now on, until the model is put into a mode again."""
    for layer in hf.modules():
        if isinstance(layer, LoraLayer):
            layer.lora_dropout.train()


@contextmanager
def all_used(hf: nn.Module) -> Iterator[None]:
    """Raises ValueError where an adapter took no part in what was computed meanwhile: some families read the weight of
    a layer and never call it, and would train for nothing.
    """
    layers = {name: layer for name, layer in hf.named_modules() if isinstance(layer, LoraLayer)}
    used: set[str] = set()
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: used.add(name))  # type: ignore[misc]
        for name, layer in layers.items()
        if isinstance(layer, nn.Module)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if idle := [name for name in layers if name not in used]:
        raise ValueError(
            f"{type(hf).__name__} never calls {idle[0]} ({len(idle)} of {len(layers)} layers with adapters), so that "
            f"its adapter would change nothing; fix: set lora.targets without {_last(idle[0])}"
        )


def save(folder: Path, weights: Mapping[str, Tensor], config: LoraConfig, base: str) -> None:
    """Write an adapter that peft loads onto the base model. weights: by `weight_names`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(described(config, list(weights), base), indent=1))


def described(config: LoraConfig, weights: Sequence[str], base: str) -> dict[str, Any]:
    """What peft, and engines, must know of an adapter. weights: names as in `weight_names`."""
    layers = {name.removeprefix(PREFIX).rpartition(".lora_")[0] for name in weights}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": sorted(layers),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def weight_names(weight: str) -> tuple[str, str]:
    """Of A and B, as peft saves them, of the layer whose weight has this name."""
    layer = f"{PREFIX}{weight.removesuffix('.weight')}"
    return f"{layer}.lora_A.weight", f"{layer}.lora_B.weight"


def shapes(held: Mapping[str, Adapter]) -> list[Shape]:
    """Of A and B of every layer, whole, by peft's names."""
    return [
        (name, dtype_name(tensor.dtype), tuple(getattr(tensor, "ds_shape", tensor.shape)))
        for weight, adapter in held.items()
        for name, tensor in zip(weight_names(weight), (adapter.a, adapter.b), strict=True)
    ]


def _last(name: str) -> str:
    return name.rpartition(".")[2]
