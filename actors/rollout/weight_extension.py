"""Runs where vLLM's model is: loads new weights into it, and tells what it holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from raylign.actors.rollout.engine import Bytes, Layout

    Named = Iterable[tuple[str, torch.Tensor]]


class WeightExtension:
    """Mixed into vLLM's worker by `worker_extension_cls`; every tensor-parallel rank takes its shard."""

    model_runner: Any
    reload_weights: Any

    def load_weights_from(self, source: Bytes | str, layout: Layout, decoy: bool = False) -> None:
        """Replace all weights by those in a flat buffer, or in a file where the caller is in another process.

        decoy: load other numbers in every place instead, so that what a later load does not reach is seen.
        """
        from raylign.actors.rollout.vllm_io import named_tensors

        buffer = np.memmap(source, np.uint8, mode="r") if isinstance(source, str) else source
        tensors = named_tensors([(name, dtype, tuple(shape), at) for name, dtype, shape, at in layout], buffer)
        self._load(decoys(tensors) if decoy else tensors)

    def _load(self, tensors: Named) -> None:
        from vllm.platforms import current_platform

        if not current_platform.is_cpu():
            self.reload_weights(weights_iterator=tensors)
            return
        from raylign.actors.rollout import cpu_patches

        model = self.model_runner.get_model()
        cpu_patches.forget_packed_experts(model)
        self.reload_weights(weights_iterator=tensors)
        cpu_patches.check_experts(model)
        cpu_patches.repack_head(model)

    def held_digests(self) -> dict[str, dict[str, Any]]:
        """See `held.held_digests`."""
        from raylign.actors.rollout import held

        return held.held_digests(self.model_runner.get_model())

    def held_adapter(self, path: str) -> dict[str, Any]:
        """See `adapters.held_adapter`."""
        from raylign.actors.rollout import adapters

        return adapters.held_adapter(self.model_runner.get_model(), path)


def decoys(tensors: Named) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of the same names and shapes in which every number is another, by so much that no cast hides it."""
    for name, tensor in tensors:
        other = tensor.new_full(tensor.shape, 0.5)
        yield name, other.masked_fill_((tensor - 0.5).abs() < 0.25, 1.0)
