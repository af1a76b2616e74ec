"""A checkpoint knows its data: every stage that learns goes on with the same rows only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from raylign.data.identity import identity_of_rows
from raylign.data.pairs import Pair, rows_of_pairs
from raylign.errors import CheckpointError
from raylign.recipes.stages.training import Training
from raylign.records import Prompt


def pair(answer: int) -> Pair:
    prompt = Prompt(id="p", messages=(), token_ids=np.array([1, 2], np.int32))
    return Pair(prompt=prompt, chosen=np.array([answer], np.int32), rejected=np.array([9], np.int32))


def test_other_rows_another_order_and_another_loss_are_other_data() -> None:
    rows = rows_of_pairs([pair(3), pair(4)])
    known = identity_of_rows(rows)
    known.check(known.state())
    masked = [*rows]
    masked[0].loss_mask[0] = True
    for other in (
        rows_of_pairs([pair(3), pair(5)]),
        rows_of_pairs([pair(4), pair(3)]),
        rows_of_pairs([pair(3)]),
        masked,
    ):
        with pytest.raises(CheckpointError, match="other data"):
            identity_of_rows(other).check(known.state())
    with pytest.raises(CheckpointError, match="does not say"):
        known.check(None)


class Context:
    """Where a stage keeps its checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.folder = SimpleNamespace(stage=lambda name: folder)
        self.cfg = SimpleNamespace(run=SimpleNamespace(keep_checkpoints=1, save_every=0))
        self.recorder = SimpleNamespace(event=lambda *_, **__: None, flushed=self.flushed)
        self.stop_requested = False

    async def flushed(self) -> None: ...

    def begin(self, *_: Any) -> None: ...

    def phase(self, *_: Any) -> None: ...


class Nothing:
    """Trains nothing."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    async def save(self, folder: Path) -> None: ...

    async def restore(self, folder: Path, state: Mapping[str, Any]) -> None: ...


async def test_a_training_goes_on_with_its_own_data_only(tmp_path: Path) -> None:
    context: Any = Context(tmp_path)
    mine, other = (identity_of_rows(rows_of_pairs([pair(answer)])) for answer in (3, 4))
    training = Training(context, "sft", 2, mine)
    async for step in training.steps(Nothing()):
        training.kept["steps"] = step + 1
    again = Training(context, "sft", 2, mine)
    assert (again.start, again.kept) == (2, {"steps": 2})
    with pytest.raises(CheckpointError, match="other data"):
        Training(context, "sft", 2, other)
