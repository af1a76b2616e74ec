"""Runs inside vLLM's own worker processes: reads new weights from a shared-memory file and loads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from raylign.actors.rollout.engine import Layout


class WeightExtension:
    """Mixed into vLLM's worker by `worker_extension_cls`; tensors in a remote call would arrive there as lists."""

    model_runner: Any
    reload_weights: Any

    def load_weight_file(self, path: str, layout: Layout) -> None:
        """Replace all weights by those in a flat file. Every tensor-parallel rank takes its own shard of each."""
        import torch

        from raylign.actors.rollout.vllm_io import named_tensors

        buffer = np.memmap(path, np.uint8, mode="r")
        tensors = named_tensors([(name, dtype, tuple(shape), at) for name, dtype, shape, at in layout], buffer)
        if torch.cuda.is_available():
            self.reload_weights(weights_iterator=tensors)
            return
        from raylign.actors.rollout.cpu_patches import check_experts, forget_packed_experts, repack_head

        forget_packed_experts(self.model_runner.get_model())
        self.reload_weights(weights_iterator=tensors)
        check_experts(self.model_runner.get_model())
        repack_head(self.model_runner.get_model())

    def held_digests(self) -> dict[str, dict[str, Any]]:
        """See `held.held_digests`."""
        from raylign.actors.rollout import held

        return held.held_digests(self.model_runner.get_model())
