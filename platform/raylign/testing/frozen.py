"""A frozen model without a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from raylign.batch import Batch
from raylign.records import Float32s, Prompt


class FakeFrozen:
    """Implements `raylign.contracts.FrozenStream`: the same log-prob for every loss token, or what a function gives.

    unscored: batch rows that come back as NaN, as those do that a frozen model could not score. `asked` keeps the
    batches.
    """

    def __init__(self, logprob: float | Callable[[Batch], Float32s] = -1.0, unscored: Collection[int] = ()) -> None:
        self._logprob, self._unscored = logprob, sorted(unscored)
        self.asked: list[Batch] = []

    async def stream(self, batch: Batch, prompts: Sequence[Prompt]) -> Float32s:
        """[N], 0 off the loss mask."""
        self.asked.append(batch)
        values = self._logprob(batch) if callable(self._logprob) else np.full(batch.tokens, self._logprob)
        values = np.where(np.isin(batch.row_of_token, self._unscored), np.nan, values)
        return np.where(batch["loss_mask"], values, 0.0).astype(np.float32)
