"""The plain prompt source: every prompt once an epoch, in an order that a restart reproduces exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raylign.contracts import PromptSource
from raylign.data.cursor import Cursor
from raylign.data.identity import identity_of
from raylign.errors import DataError
from raylign.records import Prompt


class DatasetSource(PromptSource):
    """The prompts of the data set, epoch by epoch (see `Cursor`)."""

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
        identity = identity_of(prompt.id for prompt in self._prompts)
        self._cursor = Cursor(len(prompts), identity, seed, "epoch", shuffle=config.shuffle)

    def __len__(self) -> int:
        return len(self._prompts)

    @property
    def epoch(self) -> int:
        """Epoch of the next prompt, from 0."""
        return self._cursor.epoch

    def next(self, n: int) -> list[Prompt]:
        """The next n prompts; `visit` is the epoch. Goes on with the next epoch's order at the end of one."""
        return [replace(self._prompts[number], visit=epoch) for epoch, number in self._cursor.take(n)]

    def metrics(self) -> dict[str, float]:
        """The epoch of the next prompt."""
        return {"epoch": float(self.epoch)}

    def state_dict(self) -> dict[str, Any]:
        """Where the cursor stands, and what that is only valid with."""
        return self._cursor.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where the state was taken. Raises CheckpointError when prompts, seed or shuffling have changed."""
        self._cursor.load_state_dict(state)
