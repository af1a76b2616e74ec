"""A model without optimiser and gradients, in this process, run by the learner's own packing and forward."""

from __future__ import annotations

from collections.abc import Collection

import torch

from raylign.actors.learner.forward import forward_kind
from raylign.actors.learner.passes import token_streams
from raylign.actors.learner.spec import LearnerSpec, RankTokens
from raylign.batch import Batch


class FrozenForward:
    """Loaded, and checked to be computed exactly. `note`: see `Loaded`.

    Raises ValueError on a model that the spec's kind cannot load, or cannot compute exactly.
    """

    def __init__(self, spec: LearnerSpec, device: torch.device) -> None:
        self._kind, self._device = forward_kind(spec), device
        self._model = self._kind.load().requires_grad_(False).eval().to(device)
        self.note = self._kind.settle(self._model, device)

    def streams(self, batch: Batch, names: Collection[str], ranks: int = 1, rank: int = 0) -> dict[str, RankTokens]:
        """Some of the kind's streams at the loss tokens of this rank's share of a batch."""
        kind, mine = self._kind, self._kind.pack(batch, ranks)[rank]
        return token_streams(
            lambda micro: kind.fill(names, self._model, kind.inputs(micro, batch, self._device)), names, mine
        )
