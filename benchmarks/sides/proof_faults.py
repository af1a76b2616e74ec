"""What can stay behind in an engine when new weights are loaded, made by hand: `benchmarks.weight_proof` puts it in.

vLLM's own checksums do not see most of these: they cover parameters, and a packed copy is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Restore = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that keeps its old numbers.

    `capture` is given the model before the new weights are loaded, and returns what puts the old numbers back after.
    """

    name: str
    sources: tuple[str, ...]  # parts of the names of the published tensors that did not arrive; empty: all of them
    capture: Callable[[Any], Restore] | None  # None: nothing is loaded at all

    def visible(self, before: Mapping[str, str], after: Mapping[str, str]) -> bool:
        """Whether any byte of what did not arrive is another than before, by the published digests."""
        names = [name for name in after if not self.sources or any(part in name for part in self.sources)]
        if not names:
            raise ValueError(f"{self.name}: nothing that is published has a name with {' or '.join(self.sources)}")
        return any(before.get(name) != after[name] for name in names)


def faults_of(published: Iterable[str]) -> list[Fault]:
    """All faults that a model with these published names can have."""
    names = list(published)
    head = "lm_head.weight" if "lm_head.weight" in names else "embed_tokens.weight"
    faults = [
        Fault("nothing is loaded", (), None),
        Fault("head, packed", (head,), _packed("lm_head")),
        Fault("qkv of layer 1, packed", _of(1, "q_proj", "k_proj", "v_proj"), _packed("layers.1.self_attn.qkv_proj")),
        Fault("k alone of layer 2", _of(2, "k_proj"), _packed("layers.2.self_attn.qkv_proj", 1)),
        Fault("gate_up of layer 0, packed", _of(0, "gate_proj", "up_proj"), _packed("layers.0.mlp.gate_up_proj")),
        Fault("up alone of layer 0", _of(0, "up_proj"), _packed("layers.0.mlp.gate_up_proj", 1)),
        Fault("down of layer 0, packed", _of(0, "down_proj"), _packed("layers.0.mlp.down_proj")),
        Fault("embedding", ("embed_tokens.weight",), _parameter("model.embed_tokens.weight")),
        Fault("norm of layer 1", ("layers.1.input_layernorm",), _parameter("layers.1.input_layernorm.weight")),
    ]
    if any(".experts." in name for name in names):
        w13, w2 = (f"layers.1.mlp.experts.routed_experts.{kind}_weight" for kind in ("w13", "w2"))
        fused = tuple(f"layers.1.mlp.experts.{e}.{part}" for e in range(64) for part in ("gate_proj", "up_proj"))
        faults += [
            Fault("experts of layer 1, gate_up", fused, _parameter(w13)),
            Fault(
                "experts of layer 1, down", tuple(n for n in names if "layers.1" in n and "down" in n), _parameter(w2)
            ),
            Fault("one expert of layer 1", ("layers.1.mlp.experts.3.down_proj",), _parameter(w2, 3)),
            Fault("router of layer 2, packed", ("layers.2.mlp.gate.weight",), _packed("layers.2.mlp.gate")),
        ]
    return faults


def _of(layer: int, *parts: str) -> tuple[str, ...]:
    return tuple(f"layers.{layer}.{block}.{part}." for block in ("self_attn", "mlp") for part in parts)


def _packed(path: str, part: int | None = None) -> Callable[[Any], Restore]:
    """The packed copy of a linear layer, or one of the parts that were fused into it."""

    def capture(model: Any) -> Restore:
        module = model.get_submodule(path if path == "lm_head" else f"model.{path}")
        old = _as_now(module)

        def restore() -> None:
            module.cpu_linear = old if part is None else _mixed(old, module.cpu_linear, module, part)

        return restore

    return capture


def _as_now(module: Any) -> Any:
    """What the layer computes now, whatever is loaded later.

    A CPU without a kernel that packs keeps the parameter instead, and `cpu_linear` takes it at every call.
    """
    kernel, kept = module.cpu_linear, module.weight.detach().clone()

    def linear(x: Any, weight: Any, bias: Any) -> Any:
        return kernel(x, kept if kept.numel() else weight, bias)

    return linear


def _mixed(old: Any, new: Any, module: Any, part: int) -> Any:
    sizes = module.output_partition_sizes

    def linear(x: Any, weight: Any, bias: Any) -> Any:
        import torch

        pieces = list(new(x, weight, bias).split(sizes, -1))
        pieces[part] = old(x, weight, bias).split(sizes, -1)[part]
        return torch.cat(pieces, -1)

    return linear


def _parameter(path: str, index: int | None = None) -> Callable[[Any], Restore]:
    """A parameter, or one row of it."""
    path = path if path.startswith("model.") else f"model.{path}"

    def capture(model: Any) -> Restore:
        old = model.get_parameter(path).data.clone()

        def restore() -> None:
            target = model.get_parameter(path).data
            (target if index is None else target[index]).copy_(old if index is None else old[index])

        return restore

    return capture
