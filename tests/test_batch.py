"""Batches, flat in memory: offsets, selection, streams."""

from __future__ import annotations

import numpy as np
import pytest

from raylign.batch import Batch, offsets_of
from raylign.testing import row


@pytest.fixture
def batch() -> Batch:
    return Batch.from_rows([row(0, 2, 5, tau=1.0), row(0, 2, 3, tau=2.0), row(1, 1, 4, tau=3.0)])


def test_layout(batch: Batch) -> None:
    assert len(batch) == 3
    assert batch.tokens == 12
    assert batch.offsets.tolist() == [0, 5, 8, 12]
    assert batch.lengths.tolist() == [5, 3, 4]
    assert batch.row_of_token.tolist() == [0] * 5 + [1] * 3 + [2] * 4
    assert batch.row(1, "token_ids").tolist() == [0, 1, 2]
    assert batch.row(2, "tau").tolist() == [3.0] * 4
    assert "tau" in batch
    assert "value" not in batch
    assert batch["loss_mask"].dtype == bool
    assert batch["token_ids"].dtype == np.int32


def test_select_keeps_rows_whole_and_in_order(batch: Batch) -> None:
    chosen = batch.select([2, 0])
    assert chosen.offsets.tolist() == [0, 4, 9]
    assert chosen.groups.tolist() == [1, 0]
    assert chosen.prompt_lengths.tolist() == [1, 2]
    for name in batch.streams:
        assert np.array_equal(chosen.row(0, name), batch.row(2, name))
        assert np.array_equal(chosen.row(1, name), batch.row(0, name))


def test_select_nothing(batch: Batch) -> None:
    empty = batch.select([])
    assert len(empty) == empty.tokens == 0
    assert empty["weight"].dtype == np.float32


def test_with_streams_adds_replaces_and_leaves_the_original(batch: Batch) -> None:
    more = batch.with_streams(value=np.ones(12), weight=np.zeros(12))
    assert more["value"].sum() == 12
    assert not more["weight"].any()
    assert batch["weight"].all()
    assert "value" not in batch


def test_with_streams_refuses_a_wrong_length(batch: Batch) -> None:
    with pytest.raises(ValueError, match=r"stream value has shape \(11,\), expected \(12,\)"):
        batch.with_streams(value=np.ones(11))


def test_offsets() -> None:
    assert offsets_of([3, 0, 2]).tolist() == [0, 3, 3, 5]
    assert offsets_of([]).tolist() == [0]


def test_rows_without_tokens() -> None:
    batch = Batch.from_rows([row(0, 0, 0), row(0, 0, 2)])
    assert batch.row_of_token.tolist() == [1, 1]
    assert len(batch.row(0, "weight")) == 0
