"""The plain prompt source: every prompt once an epoch, in an order that a restart reproduces exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raylign.contracts import PromptSource
from raylign.data.identity import identity_of
from raylign.errors import CheckpointError, DataError
from raylign.records import Group, Prompt, content_id, derive_seed


class DatasetSource(PromptSource):
    """A cursor over a permutation that is drawn from (seed, epoch) and nothing else.

    The state is (epoch, cursor), never an exhausted iterator, so it is exact at an epoch's end too. A resume on other
    prompts, or in another order, is refused.
    """

    @dataclass
    class Config:
        """How to walk through the prompts."""

        shuffle: bool = True  # False: the order of the file, every epoch

    def __init__(self, config: Config, *, prompts: Sequence[Prompt], seed: int, tokenizer: Any = None) -> None:
        # tokenizer: offered to every source; these prompts come rendered
        if not prompts:
            raise DataError("a prompt source needs at least one prompt")
        self.config = config
        self._prompts = tuple(prompts)
        self._seed = seed
        self._epoch = 0
        self._cursor = 0
        self._order = self._permutation(0)
        self._identity = identity_of(prompt.id for prompt in self._prompts)

    def __len__(self) -> int:
        return len(self._prompts)

    @property
    def epoch(self) -> int:
        """Epoch of the next prompt, from 0."""
        return self._epoch if self._cursor < len(self) else self._epoch + 1

    def next(self, n: int) -> list[Prompt]:
        """The next n prompts; `visit` is the epoch. Goes on with the next epoch's order at the end of one."""
        taken: list[Prompt] = []
        while len(taken) < n:
            if self._cursor == len(self):
                self._epoch, self._cursor = self._epoch + 1, 0
                self._order = self._permutation(self._epoch)
            some = self._order[self._cursor : self._cursor + n - len(taken)]
            taken += [replace(self._prompts[index], visit=self._epoch) for index in some]
            self._cursor += len(some)
        return taken

    def observe(self, groups: Sequence[Group]) -> None:
        """Nothing to learn: the order is fixed in advance."""

    def evaluated(self, metrics: Mapping[str, float]) -> None:
        """Nothing to learn."""

    def metrics(self) -> dict[str, float]:
        """The epoch of the next prompt."""
        return {"epoch": float(self.epoch)}

    def state_dict(self) -> dict[str, Any]:
        """Epoch, cursor, and what they are only valid with."""
        return {
            "epoch": self._epoch,
            "cursor": self._cursor,
            "data": self._identity.state(),
            "order": self._order_digest(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where the state was taken. Raises CheckpointError when prompts, seed or shuffling have changed."""
        self._identity.check(state.get("data"))
        before = (self._epoch, self._cursor, self._order)
        self._epoch, self._cursor = int(state["epoch"]), int(state["cursor"])
        self._order = self._permutation(self._epoch)
        if state["order"] != self._order_digest():
            self._epoch, self._cursor, self._order = before
            raise CheckpointError("the checkpoint was made with another seed or shuffle setting of the prompt source")

    def _permutation(self, epoch: int) -> list[int]:
        if not self.config.shuffle:
            return list(range(len(self._prompts)))
        generator = np.random.Generator(np.random.PCG64(derive_seed(self._seed, "epoch", epoch)))
        return [int(index) for index in generator.permutation(len(self._prompts))]

    def _order_digest(self) -> str:
        return content_id(*map(str, self._order))
