"""Packing is exact: every loss token once, every row sees exactly its own context, budgets and ranks are kept."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylign.batch import Batch, offsets_of
from raylign.packing import MicroBatch, balance, computed_tokens, dummy, pack
from raylign.row_needs import row_needs


def make_batch(groups: list[tuple[int, list[list[bool]]]], seed: int = 0) -> Batch:
    """groups: (prompt length, loss mask of the tokens after the prompt, per row)."""
    rng = np.random.default_rng(seed)
    tokens, masks, prompt_lengths, numbers = [], [], [], []
    for number, (length, rows) in enumerate(groups):
        prompt = rng.integers(0, 50, length)
        for mask in rows:
            tokens.append(np.concatenate([prompt, rng.integers(0, 50, len(mask))]))
            masks.append(np.concatenate([np.zeros(length, bool), np.array(mask, bool)]))
            prompt_lengths.append(length)
            numbers.append(number)
    ids = np.concatenate(tokens).astype(np.int32)
    return Batch(
        offsets=offsets_of([len(row) for row in tokens]),
        prompt_lengths=np.array(prompt_lengths, np.int32),
        groups=np.array(numbers, np.int32),
        streams={"token_ids": ids, "loss_mask": np.concatenate(masks)},
    )


def plain(prompts: list[int], responses: list[list[int]], seed: int = 0) -> Batch:
    rows = [(p, [[True] * r for r in rs]) for p, rs in zip(prompts, responses, strict=True)]
    return make_batch(rows, seed)


row_masks = st.lists(st.booleans(), min_size=0, max_size=12)
batches = st.lists(st.tuples(st.integers(1, 9), st.lists(row_masks, min_size=1, max_size=5)), min_size=1, max_size=6)


def visible(micro: MicroBatch, position: int) -> list[int]:
    """Token ids that a query at this computed position attends to, in order of position."""
    for start, length, prefix_start, prefix_length in micro.segments:
        if start <= position < start + length:
            seen = [*range(prefix_start, prefix_start + prefix_length), *range(start, position + 1)]
            assert micro.position_ids[seen].tolist() == list(range(len(seen)))
            return micro.token_ids[seen].tolist()
    raise AssertionError("position in no segment")


def check(batch: Batch, ranks: int, budget: int, share: bool, whole: bool = False) -> list[list[MicroBatch]]:
    plan = pack(batch, ranks, budget, share, whole)
    assert len(plan) == ranks
    assert len({len(rank) for rank in plan}) == 1
    micros = [micro for rank in plan for micro in rank]
    assert all(len(micro.rows) or micro.tokens == 1 for micro in micros)
    loss = np.concatenate([micro.token_index for micro in micros])
    assert sorted(loss.tolist()) == np.flatnonzero(batch["loss_mask"]).tolist()
    rows = np.concatenate([micro.rows for micro in micros])
    assert len(set(rows.tolist())) == len(rows)
    for micro in micros:
        alone = len(set(batch.groups[micro.rows].tolist())) == 1 if whole else len(micro.rows) == 1
        assert micro.tokens <= budget or alone
        ends = micro.segments[:, 0] + micro.segments[:, 1]
        assert [0, *ends[:-1]] == micro.segments[:, 0].tolist()
        assert ends[-1] == micro.tokens == len(micro.position_ids)
        for predict, token, row in zip(micro.predict_index, micro.token_index, micro.segment, strict=True):
            owner = micro.rows[row]
            start = batch.offsets[owner]
            assert start < token < batch.offsets[owner + 1]
            assert visible(micro, predict) == batch["token_ids"][start:token].tolist()
    return plan


@settings(max_examples=150, deadline=None)
@given(batches, st.integers(1, 3), st.integers(1, 60), st.booleans())
def test_every_loss_token_once_with_its_own_context(
    groups: list[tuple[int, list[list[bool]]]], ranks: int, budget: int, share: bool
) -> None:
    check(make_batch(groups), ranks, budget, share)


@settings(max_examples=100, deadline=None)
@given(batches, st.integers(1, 3), st.integers(1, 60), st.booleans())
def test_whole_groups_are_never_split(
    groups: list[tuple[int, list[list[bool]]]], ranks: int, budget: int, share: bool
) -> None:
    batch = make_batch(groups)
    plan = check(batch, ranks, budget, share, whole=True)
    homes: dict[int, set[int]] = {}
    for number, micro in enumerate(chain(*plan)):
        for group in batch.groups[micro.rows].tolist():
            homes.setdefault(group, set()).add(number)
    assert all(len(places) == 1 for places in homes.values())


def test_whole_groups_whose_rows_disagree_on_the_prompt_share_nothing_and_stay_together() -> None:
    batch = plain([4, 2, 6], [[3], [5], [7, 2]])
    joined = Batch(
        offsets=batch.offsets,
        prompt_lengths=batch.prompt_lengths,
        groups=np.array([0, 0, 1, 1], np.int32),
        streams=batch.streams,
    )
    plan = check(joined, 1, 1, True, whole=True)
    assert [sorted(micro.rows.tolist()) for micro in plan[0]] == [[2, 3], [0, 1]]
    assert plan[0][1].tokens == 6 + 6  # rows of 7 and 7 tokens without their last, nothing shared


@settings(max_examples=50, deadline=None)
@given(batches, st.integers(1, 3), st.integers(20, 80), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_change_the_work(
    groups: list[tuple[int, list[list[bool]]]], ranks: int, budget: int, random: object
) -> None:
    batch = make_batch(groups)
    order = list(range(len(batch)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = batch.select(order)

    def contexts(source: Batch) -> list[tuple[int, ...]]:
        micros = [micro for rank in pack(source, ranks, budget, True) for micro in rank]
        return sorted(tuple(visible(micro, at)) for micro in micros for at in micro.predict_index)

    assert contexts(batch) == contexts(shuffled)


def test_deterministic() -> None:
    batch = plain([5, 6], [[4, 9, 2], [3, 3]])
    first, second = pack(batch, 2, 16, True), pack(batch, 2, 16, True)
    for one, two in zip(chain(*first), chain(*second), strict=True):
        assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in MicroBatch.__slots__)


def test_example_of_the_docstring() -> None:
    batch = plain([2], [[2, 2]])
    [[micro]] = pack(batch, 1, 100, True)
    assert micro.segments.tolist() == [[0, 2, 0, 0], [2, 1, 0, 2], [3, 1, 0, 2]]
    assert micro.predict_index.tolist() == [1, 2, 1, 3]
    assert micro.position_ids.tolist() == [0, 1, 2, 2]


def test_final_token_and_trailing_context_are_not_computed() -> None:
    batch = make_batch([(3, [[True, True, False, False], [False, False]])])
    [[micro]] = pack(batch, 1, 100, True)
    assert micro.tokens == 4  # prompt 3 + first response token, nothing for the row without loss
    assert micro.rows.tolist() == [0]


def test_sharing_computes_the_prompt_once() -> None:
    batch = plain([100], [[5] * 8])
    assert computed_tokens(pack(batch, 1, 10_000, True)) == 100 + 8 * 4
    assert computed_tokens(pack(batch, 1, 10_000, False)) == 8 * 104


def test_loss_on_first_token_is_refused() -> None:
    batch = make_batch([(0, [[True, True]])])
    with pytest.raises(ValueError, match="row 0 has a loss on its first token"):
        pack(batch, 1, 8, True)


def test_prompts_that_differ_within_a_group_are_refused() -> None:
    batch = plain([3, 3], [[2], [2]])
    lying = Batch(
        offsets=batch.offsets, prompt_lengths=batch.prompt_lengths, groups=np.zeros(2, np.int32), streams=batch.streams
    )
    with pytest.raises(ValueError, match="rows 0 and 1 of prompt 0 differ"):
        pack(lying, 1, 64, True)
    assert len(pack(lying, 1, 64, False)[0][0].rows) == 2


def test_nothing_to_learn_gives_one_dummy_per_rank() -> None:
    batch = make_batch([(3, [[False], [False]])])
    plan = pack(batch, 2, 8, True)
    assert [len(rank) for rank in plan] == [1, 1]
    assert plan[0][0].tokens == dummy().tokens == 1
    assert len(plan[1][0].token_index) == 0


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("share", [True, False])
def test_efficiency_and_balance_on_log_normal_lengths(ranks: int, share: bool) -> None:
    rng = np.random.default_rng(3)
    responses = [np.clip(rng.lognormal(3.8, 0.8, 8), 1, 256).astype(int).tolist() for _ in range(32)]
    batch = plain(rng.integers(20, 60, 32).tolist(), responses)
    plan = check(batch, ranks, 1024, share)
    needs = row_needs(batch, share)
    useful = sum(needs.tokens(members) for members in needs.by_key())
    assert 0.94 <= useful / computed_tokens(plan) <= 1
    assert balance(plan) >= 0.97
    sizes = [micro.tokens for rank in plan for micro in rank]
    assert min(sizes) >= (0.6 if share else 0.9) * max(sizes)  # whole groups are coarser than rows


def test_one_group_is_split_over_ranks() -> None:
    plan = check(plain([10], [[50] * 8]), 2, 4096, True)
    assert [len(rank[0].rows) for rank in plan] == [4, 4]
    assert balance(plan) == 1.0
