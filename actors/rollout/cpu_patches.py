"""Where vLLM's CPU build needs help: packed copies of weights that go stale, and seeds drawn one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

from raylign.errors import EngineDeadError

SEED_BLOCK = 64


def repack_head(model: torch.nn.Module) -> None:
    """Pack the output head anew from its (already updated) weight.

    vLLM packs linear layers for oneDNN when they are loaded. A head tied to the embedding is no parameter of its own,
    so a reload updates the embedding and leaves the packed copy as it was, without an error.
    """
    head = getattr(model, "lm_head", None)
    if head is not None and getattr(head, "weight", None) is not None and head.weight.numel():
        dispatch_cpu_unquantized_gemm(head, remove_weight=False)


def forget_packed_experts(model: torch.nn.Module) -> None:
    """Let the next reload pack experts anew.

    vLLM packs the experts of a layer once, with its first kernel. A reload that meets a kernel copies the new weights
    into what packing left of the old ones: it fails, or the kernel goes on with the old weights.
    """
    for layer in model.modules():
        method: Any = getattr(layer, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            method.moe_kernel = None


def check_experts(model: torch.nn.Module) -> None:
    """After a reload: every layer of experts must have been packed. Raises EngineDeadError naming the model."""
    methods: list[Any] = [getattr(layer, "quant_method", None) for layer in model.modules()]
    stale = sum(hasattr(method, "moe_kernel") and method.moe_kernel is None for method in methods)
    if stale:
        raise EngineDeadError(
            f"vLLM's CPU build does not take new weights for the experts of {type(model).__name__} ({stale} layers)"
        )


class SeededSampling:
    """Gumbel-max sampling with the same draws as vLLM's CPU sampler, a tenth faster for seeded requests.

    vLLM asks each request's generator for one number per token, which costs more than the sampling itself. Asking for
    `SEED_BLOCK` at a time gives the same numbers: its integers do not depend on how many are drawn at once.
    """

    def __init__(self) -> None:
        self._ahead: WeakKeyDictionary[torch.Generator, Iterator[int]] = WeakKeyDictionary()

    def __call__(
        self,
        logits: torch.Tensor,
        generators: dict[int, torch.Generator],
        k: torch.Tensor | None,
        p: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """logits [B, V] after temperature -> sampled ids [B], processed log-probs [B, V]."""
        logits = apply_top_k_top_p(logits, k, p)
        logprobs = logits.log_softmax(dim=-1, dtype=torch.float32)
        seeds = [0] * logits.shape[0]  # rows without a generator are scoring requests, whose token is thrown away
        for row, generator in generators.items():
            seeds[row] = self._next(generator)
        noise_seeds = torch.tensor(seeds, dtype=torch.long)
        return torch.ops._C.fused_gumbel_argmax(logits.to(torch.float32), noise_seeds), logprobs

    def _next(self, generator: torch.Generator) -> int:
        ahead = self._ahead.get(generator)
        value = next(ahead, None) if ahead is not None else None
        if value is None:
            block = torch.randint(0, 2**31, (SEED_BLOCK,), generator=generator, dtype=torch.long)
            ahead = self._ahead[generator] = iter(block.tolist())
            value = next(ahead)
        return value


def draw_seeds_in_blocks(runner: Any) -> None:
    """Let a CPU model runner sample by `SeededSampling`."""
    runner.sampler.topk_topp_sampler.forward = SeededSampling()
