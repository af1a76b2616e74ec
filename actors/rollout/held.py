"""Runs where vLLM's model is: digests of everything that it computes with, packed copies included."""

from __future__ import annotations

import hashlib
from typing import Any

ROWS = 512  # of the identity, at a time


def held_digests(model: Any) -> dict[str, dict[str, Any]]:
    """SHA-256 of each parameter and each packed copy, their dtypes, and what vLLM fuses.

    vLLM's own digests cover parameters, packed experts among them. On a CPU its linear layers give their parameter away
    and keep a packed copy that nothing lists, and a tied head keeps one beside the embedding. Such a copy is read back
    through its own kernel: the rows of an identity matrix give its columns, each the sum of one product with 1 and of
    zeros, so the values are exact. It costs as much as a prompt of as many tokens as the layer has inputs.
    """
    from vllm.model_executor.model_loader.weight_checksum import compute_tensor_digests

    parameters = dict(model.named_parameters())
    digests = compute_tensor_digests(model)
    full = {name: digest for name, digest in digests.items() if name not in parameters or parameters[name].numel()}
    dtypes = {name: _dtype(parameters[name]) if name in parameters else "" for name in full}
    for name, module in model.named_modules():
        if getattr(module, "cpu_linear", None) is not None:
            full[f"{name}.packed"], dtypes[f"{name}.packed"] = _packed(module), _dtype(module.weight)
    fused = getattr(model, "packed_modules_mapping", None) or {}
    return {"digests": full, "dtypes": dtypes, "fused": {name: list(parts) for name, parts in fused.items()}}


def _packed(module: Any) -> str:
    import torch

    inputs, digest = _inputs(module), hashlib.sha256()
    with torch.no_grad():
        for start in range(0, inputs, ROWS):
            rows = torch.zeros(min(ROWS, inputs - start), inputs, dtype=module.weight.dtype)
            rows[torch.arange(len(rows)), start + torch.arange(len(rows))] = 1
            columns = module.cpu_linear(rows, module.weight, None)
            digest.update(columns.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _inputs(module: Any) -> int:
    """Inputs of a linear layer or of a head, on this rank."""
    for name in ("input_size_per_partition", "input_size", "embedding_dim"):
        if (size := getattr(module, name, None)) is not None:
            return int(size)
    return int(module.weight.shape[1])


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")
