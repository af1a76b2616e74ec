"""The cursor: exact after a restart wherever it stood, and never on other data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from raylign.data.source import DatasetSource
from raylign.errors import CheckpointError, DataError
from raylign.records import Prompt


def prompts(count: int) -> list[Prompt]:
    return [Prompt(id=f"p{i}", messages=(), token_ids=np.zeros(1, np.int32)) for i in range(count)]


def source(count: int = 7, seed: int = 1, shuffle: bool = True) -> DatasetSource:
    return DatasetSource(DatasetSource.Config(shuffle=shuffle), prompts=prompts(count), seed=seed)


def test_every_prompt_once_an_epoch_in_another_order() -> None:
    walk = source()
    epochs = [[prompt.id for prompt in walk.next(7)] for _ in range(4)]
    assert all(sorted(epoch) == [f"p{i}" for i in range(7)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [prompt.id for prompt in source().next(7)] == epochs[0]
    assert [prompt.id for prompt in source(seed=2).next(7)] != epochs[0]


def test_unshuffled_order_and_visits_across_epochs() -> None:
    walk = source(3, shuffle=False)
    taken = walk.next(8)
    assert [prompt.id for prompt in taken] == ["p0", "p1", "p2", "p0", "p1", "p2", "p0", "p1"]
    assert [prompt.visit for prompt in taken] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert len({prompt.key for prompt in taken}) == 8


@pytest.mark.parametrize("taken", range(16))  # 7 and 14 are epoch boundaries
@pytest.mark.parametrize("batch", [1, 3, 7, 10])
def test_resume_at_every_cursor(taken: int, batch: int) -> None:
    walk = source()
    if taken:
        walk.next(taken)
    state = json.loads(json.dumps(walk.state_dict()))
    other = source()
    other.next(5)
    other.load_state_dict(state)
    assert other.epoch == walk.epoch
    for _ in range(4):
        assert [p.key for p in other.next(batch)] == [p.key for p in walk.next(batch)]


def test_other_data_or_order_is_refused() -> None:
    walk = source()
    walk.next(3)
    state = walk.state_dict()
    with pytest.raises(CheckpointError, match="other data"):
        source(8).load_state_dict(state)
    reordered = DatasetSource(DatasetSource.Config(), prompts=prompts(7)[::-1], seed=1)
    with pytest.raises(CheckpointError, match="other data"):
        reordered.load_state_dict(state)
    for changed in (source(seed=2), source(shuffle=False)):
        expected = [prompt.key for prompt in source(seed=2).next(2)]
        with pytest.raises(CheckpointError, match="another seed or shuffle"):
            changed.load_state_dict(state)
        if changed.config.shuffle:
            assert [prompt.key for prompt in changed.next(2)] == expected  # untouched by the refusal
    with pytest.raises(DataError):
        source(0)
