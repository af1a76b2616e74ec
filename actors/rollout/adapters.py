"""A LoRA adapter on its way into vLLM: by a folder in peft's form, which vLLM reads, and back as what it holds.

    update ──write──► folder ──add_lora──► stacks of A and alpha / rank B ──faults──► names that are not the folder's

vLLM reports no failure when it leaves a layer out, or goes on with an older adapter of the same number.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raylign.errors import EngineDeadError

if TYPE_CHECKING:
    import torch

    from raylign.actors.rollout.engine import Bytes
    from raylign.contracts import WeightUpdate

SHARED_MEMORY = "/dev/shm"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
A, B = ".lora_A.weight", ".lora_B.weight"
NUMBER = 1  # of the only adapter


class AdapterFolder:
    """Where the present adapter lies, in memory where the machine lets us; removed with the object."""

    def __init__(self) -> None:
        shared = SHARED_MEMORY if os.path.isdir(SHARED_MEMORY) else None
        self._folder = tempfile.TemporaryDirectory(prefix="raylign-adapter-", dir=shared)
        self.path = self._folder.name

    def write(self, weights: WeightUpdate, buffer: Bytes) -> None:
        """Write an update in place of the one before."""
        from safetensors.torch import save_file

        from raylign.actors.rollout.vllm_io import named_tensors

        save_file(dict(named_tensors(weights.layout, buffer)), Path(self.path) / WEIGHTS)
        (Path(self.path) / CONFIG).write_text(json.dumps(dict(weights.adapter or {})))

    def request(self, load: bool = False) -> Any:
        """What vLLM is told of it. load: it is read anew, though one of that number is there."""
        from vllm.lora.request import LoRARequest

        return LoRARequest("policy", NUMBER, self.path, load_inplace=load)


def prove(version: int, published: Mapping[str, str], ranks: list[Mapping[str, Any]]) -> None:
    """Raises EngineDeadError unless every rank read the published bytes, and computes with them and no others."""
    for rank in ranks:
        if rank["read"] != dict(published):
            raise EngineDeadError(f"the adapter of version {version} is not the published one where vLLM reads it")
        if rank["faults"]:
            named = ", ".join(rank["faults"][:3])
            raise EngineDeadError(
                f"the adapter of version {version} is not live: {len(rank['faults'])} of its tensors are not what the "
                f"engine computes with, e.g. {named}; fix: where the engine takes no adapter of these layers set "
                "lora.sync=merged, or lora.targets without them"
            )


def held_adapter(model: Any, path: str) -> dict[str, Any]:
    """Digests of the tensors in the folder, by name, and the names of those that the engine does not hold as they are.

    Runs where vLLM's model is, on a model of one rank.
    """
    from safetensors.torch import load_file

    from raylign.actors.rollout.held import digest_of

    tensors = load_file(Path(path) / WEIGHTS)
    settings = json.loads((Path(path) / CONFIG).read_text())
    scale = settings["lora_alpha"] / settings["r"]
    stacks = {_tail(name): pair for name, pair in _stacks(model).items()}
    layers = {_tail(name.removesuffix(A)): name.removesuffix(A) for name in tensors if name.endswith(A)}
    faults = [name for name in stacks if name not in layers and any(bool(part.any()) for part in stacks[name])]
    for tail, layer in layers.items():
        a, b = tensors[layer + A], tensors[layer + B]
        if tail not in stacks:
            faults += [layer + A, layer + B]
            continue
        held_a, held_b = stacks[tail]
        faults += [layer + A] * (not _is(held_a, a)) + [layer + B] * (not _is(held_b, b * scale))
    return {"read": {name: digest_of(tensor) for name, tensor in tensors.items()}, "faults": sorted(faults)}


def _stacks(model: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A and scaled B of each layer that can have an adapter, by the layer's name before fusing."""
    fused = getattr(model, "packed_modules_mapping", None) or {}
    held: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, module in model.named_modules():
        stacked_a, stacked_b = getattr(module, "lora_a_stacked", None), getattr(module, "lora_b_stacked", None)
        if not isinstance(stacked_a, tuple) or not isinstance(stacked_b, tuple):
            continue
        above, _, own = name.rpartition(".")
        parts = [f"{above}.{part}" for part in fused.get(own, ())] if len(stacked_a) > 1 else [name]
        for part, a, b in zip(parts, stacked_a, stacked_b, strict=True):
            held[part] = (a[0, 0], b[0, 0])
    return held


def _is(held: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether a stack of the highest rank holds this tensor, and zeros beside it."""
    rows, columns = wanted.shape
    inside = held[:rows, :columns].cpu()
    return bool((inside == wanted.to(inside.dtype)).all()) and int(held.count_nonzero()) == int(inside.count_nonzero())


def _tail(name: str) -> str:
    """``base_model.model.model.layers.0.mlp.up_proj`` -> ``layers.0.mlp.up_proj``."""
    _, layers, rest = name.partition("layers.")
    return layers + rest if layers else name.rpartition(".")[2]
