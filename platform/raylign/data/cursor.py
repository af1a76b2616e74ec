"""A place in data that is walked through epoch by epoch: what a restart needs to go on exactly there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raylign.data.identity import DataIdentity
from raylign.errors import CheckpointError
from raylign.records import content_id, derive_seed

SHOWN = 4096  # entries of an order that its digest reads; seed, label, epoch and size determine the rest


class Cursor:
    """Walks through the numbers 0 .. size - 1, each once an epoch, in an order drawn from (seed, label, epoch) only.

    The state is (epoch, position), never an exhausted iterator, so it is exact at an epoch's end too. It is refused on
    other data (`identity`), and where the order is another one.
    """

    def __init__(self, size: int, identity: DataIdentity, seed: int, *label: str | int, shuffle: bool = True) -> None:
        if size < 1:
            raise ValueError(f"a cursor over {size} entries has nothing to hand out")
        self._size, self._identity, self._seed, self._label, self._shuffle = size, identity, seed, label, shuffle
        self._epoch = self._position = 0
        self._order = self._order_of(0)

    def __len__(self) -> int:
        return self._size

    @property
    def epoch(self) -> int:
        """Epoch of the next number, from 0."""
        return self._epoch if self._position < self._size else self._epoch + 1

    def take(self, n: int) -> list[tuple[int, int]]:
        """The next n numbers as (epoch, number); goes on with the next epoch's order at the end of one."""
        taken: list[tuple[int, int]] = []
        while len(taken) < n:
            if self._position == self._size:
                self._epoch, self._position = self._epoch + 1, 0
                self._order = self._order_of(self._epoch)
            some = self._order[self._position : self._position + n - len(taken)]
            taken += [(self._epoch, int(number)) for number in some]
            self._position += len(some)
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Epoch, position, and what they are only valid with."""
        return {
            "epoch": self._epoch,
            "position": self._position,
            "data": self._identity.state(),
            "order": self._digest(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where the state was taken. Raises CheckpointError when the data, the seed or the order have changed,
        and stays where it was.
        """
        self._identity.check(state.get("data"))
        before = (self._epoch, self._position, self._order)
        self._epoch, self._position = int(state["epoch"]), int(state["position"])
        self._order = self._order_of(self._epoch)
        if state["order"] != self._digest():
            self._epoch, self._position, self._order = before
            raise CheckpointError(
                "the checkpoint was made with another seed or shuffle setting, or other settings, of the prompt source"
            )

    def _order_of(self, epoch: int) -> np.ndarray:
        if not self._shuffle:
            return np.arange(self._size)
        generator = np.random.Generator(np.random.PCG64(derive_seed(self._seed, *self._label, epoch)))
        return generator.permutation(self._size)

    def _digest(self) -> str:
        return content_id(str(self._size), *map(str, self._order[:SHOWN]))
