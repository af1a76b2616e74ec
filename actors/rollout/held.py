"""Runs where vLLM's model is: digests of everything that it computes with, packed copies included.

vLLM fuses what checkpoints keep apart. Such a tensor is told in the parts that it is made of, so that one part that
stayed behind shows: `qkv_proj` as `q_proj`, `k_proj`, `v_proj`, and the weights of a layer's experts one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xxhash

if TYPE_CHECKING:
    import torch

ROWS = 512  # of the identity, at a time

Parts = Sequence[tuple[str, int]]  # names of the modules that a fused one stands for, and their outputs on this rank


def held_digests(model: Any) -> dict[str, dict[str, Any]]:
    """XXH3 (128 bit) of each part of each parameter and of each packed copy, their dtypes, and what vLLM fuses.

    On a CPU linear layers give their parameter away and keep a packed copy that nothing lists, and a tied head keeps
    one beside the embedding. Such a copy is read back through its own kernel: the rows of an identity matrix give its
    columns, each the sum of one product with 1 and of zeros, so the values are exact. It costs as much as a prompt of
    as many tokens as the layer has inputs.
    """
    digests: dict[str, str] = {}
    dtypes: dict[str, str] = {}
    fused = {whole: list(parts) for whole, parts in (getattr(model, "packed_modules_mapping", None) or {}).items()}
    listed: set[int] = set()  # a tied weight is a parameter of two modules
    identity = _Identity()
    for name, module in model.named_modules():
        if hasattr(module, "lora_a_stacked"):  # stands around the layer that it adds to, and shows its weight again
            continue
        prefix = name.replace(".base_layer", "")
        parts = _parts(prefix, module, fused)
        told: dict[str, str] = {}
        for key, parameter in module.named_parameters(recurse=False):
            if parameter.numel() and id(parameter) not in listed:
                listed.add(id(parameter))
                told = dict(_parameter(f"{prefix}.{key}".lstrip("."), key, module, parameter, parts))
                digests |= told
                dtypes |= dict.fromkeys(told, _dtype(parameter))
        if getattr(module, "cpu_linear", None) is not None:
            told = _packed(module, parts or [(prefix, 0)], identity)
            digests |= told
            dtypes |= dict.fromkeys(told, _dtype(module.weight))
    return {"digests": digests, "dtypes": dtypes, "fused": fused}


def _parts(prefix: str, module: Any, fused: Mapping[str, Sequence[str]]) -> Parts:
    """Of a fused linear layer whose parts can be told apart; empty for any other module."""
    above, _, own = prefix.rpartition(".")
    names, sizes = fused.get(own, ()), getattr(module, "output_partition_sizes", ())
    if len(names) < 2 or len(names) != len(sizes):
        return []
    return [(f"{above}.{name}".lstrip("."), int(size)) for name, size in zip(names, sizes, strict=True)]


def _parameter(name: str, key: str, module: Any, parameter: Any, parts: Parts) -> Iterator[tuple[str, str]]:
    if parts and parameter.shape[0] == sum(size for _, size in parts):
        pieces = parameter.detach().split([size for _, size in parts])
        yield from ((f"{part}.{key}", digest_of(piece)) for (part, _), piece in zip(parts, pieces, strict=True))
        return
    experts = getattr(module, "local_num_experts", 0) if getattr(module, "expert_map", None) is None else 0
    if not experts or parameter.dim() < 2 or parameter.shape[0] != experts:
        yield name, digest_of(parameter)
        return
    each = [digest_of(expert) for expert in parameter.detach()]
    yield name, xxhash.xxh3_128_hexdigest("".join(each).encode())
    yield from ((f"{name}[{number}]", digest) for number, digest in enumerate(each))


def digest_of(tensor: Any) -> str:
    """Of a tensor's bytes; vLLM's own digests of one that keeps them in inner tensors, as quantised ones do."""
    import torch
    from torch.utils._python_dispatch import is_traceable_wrapper_subclass
    from vllm.model_executor.parameter import SharedWeightParameter

    if not isinstance(tensor, SharedWeightParameter) and not is_traceable_wrapper_subclass(tensor):
        return xxhash.xxh3_128_hexdigest(_bytes(tensor))
    from vllm.model_executor.model_loader.weight_checksum import compute_tensor_digests

    inner: Any = tensor  # of types that torch's signatures do not know
    holder = torch.nn.Module()
    is_parameter = isinstance(tensor, torch.nn.Parameter)
    holder.register_parameter("tensor", inner if is_parameter else torch.nn.Parameter(inner, requires_grad=False))
    return "+".join(compute_tensor_digests(holder).values())


def _bytes(tensor: torch.Tensor) -> Any:
    import torch

    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()


def _packed(module: Any, parts: Parts, identity: _Identity) -> dict[str, str]:
    import torch

    hashes = [xxhash.xxh3_128() for _ in parts]
    sizes = [size for _, size in parts]
    with torch.no_grad():
        for rows in identity.rows(_inputs(module), module.weight.dtype):
            columns = module.cpu_linear(rows, module.weight, None)
            for piece, digest in zip(columns.split(sizes, 1) if sizes[0] else [columns], hashes, strict=True):
                digest.update(_bytes(piece))
    return {f"{name}.packed": digest.hexdigest() for (name, _), digest in zip(parts, hashes, strict=True)}


class _Identity:
    """Rows of identity matrices, `ROWS` at a time; layers of one shape share the memory."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def rows(self, size: int, dtype: torch.dtype) -> Iterator[torch.Tensor]:
        """[at most ROWS, size] each, valid until the next is asked for."""
        import torch

        if (size, dtype) not in self._blocks:
            self._blocks[size, dtype] = torch.zeros(min(ROWS, size), size, dtype=dtype)
        block = self._blocks[size, dtype]
        for start in range(0, size, ROWS):
            rows = block[: size - start]
            diagonal = rows.diagonal(start)
            diagonal.fill_(1)
            yield rows
            diagonal.zero_()


def _inputs(module: Any) -> int:
    """Inputs of a linear layer or of a head, on this rank."""
    for name in ("input_size_per_partition", "input_size", "embedding_dim"):
        if (size := getattr(module, name, None)) is not None:
            return int(size)
    return int(module.weight.shape[1])


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")
