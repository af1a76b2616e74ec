"""CM2's reward algebra (arXiv:2602.12268, eq. 1-10) against loops written from the equations."""

from __future__ import annotations

import numpy as np
import pytest

from raylign.actors.judge.flips import (
    JudgedTurn,
    Satisfied,
    backfilled,
    eligible,
    flips,
    proceeds,
    states,
    step_advantages,
)

# c0 and c1 stand alone, c2 needs c1; c2 is labelled true one step before its dependency
VECTOR = np.array([[1, 0, 1], [1, 1, 1], [1, 1, 1]], bool)
NEEDS = np.array([[0, 0, 0], [0, 0, 0], [0, 1, 0]], bool)
WEIGHTS = np.array([0.3, 0.3, 0.4])


def tables(count: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Random labels, acyclic dependencies and weights."""
    rng = np.random.default_rng(0)
    tables = []
    for _ in range(count):
        steps, items = int(rng.integers(1, 7)), int(rng.integers(1, 6))
        needs = np.tril(rng.random((items, items)) < rng.random(), -1)
        weights = rng.random(items) + 1e-3
        tables.append((rng.random((steps, items)) < rng.random(), needs, weights / weights.sum()))
    return tables


def looped(labels: np.ndarray, needs: np.ndarray, mode: Satisfied) -> tuple[np.ndarray, np.ndarray]:
    """r and r~ of eq. 1 item by item, from the definitions."""
    steps, items = labels.shape
    sat = [[False] * items for _ in range(steps + 1)]
    for s in range(steps):
        for c in range(items):
            held = all(sat[s][d] for d in range(items) if needs[c, d])
            new = labels[s, c] and (held if mode is Satisfied.gated else True)
            sat[s + 1][c] = sat[s][c] or bool(new)
    r, filled = np.zeros(labels.shape), np.zeros(labels.shape)
    for s in range(steps):
        for c in range(items):
            held = mode is Satisfied.code or all(sat[s][d] for d in range(items) if needs[c, d])
            r[s, c] = held and not sat[s][c] and sat[s + 1][c]
            filled[s, c] = held and not sat[s][c] and any(sat[u + 1][c] for u in range(s, steps))
    return r, filled


@pytest.mark.parametrize(("mode", "score"), [("literal", 0.6), ("code", 1.0), ("gated", 1.0)])
def test_vector_1(mode: str, score: float) -> None:
    scores = JudgedTurn(labels=VECTOR, dependencies=NEEDS, weights=WEIGHTS).step_scores(Satisfied[mode])
    assert scores.sum() == pytest.approx(score)
    if mode == "gated":
        np.testing.assert_allclose(scores, [0.3, 0.3, 0.4])  # the early label counts at the first step that repeats it


@pytest.mark.parametrize("mode", list(Satisfied))
def test_vector_2_an_item_pays_once_and_a_turn_at_most_1(mode: Satisfied) -> None:
    for labels, needs, weights in tables(10_000 if mode is Satisfied.gated else 2000):
        r = flips(labels, needs, mode)
        assert r.sum(axis=0).max() <= 1
        total = (r @ weights).sum()
        assert 0 <= total <= 1 + 1e-12


@pytest.mark.parametrize("mode", list(Satisfied))
def test_against_loops(mode: Satisfied) -> None:
    for labels, needs, _ in tables(500):
        r, filled = looped(labels, needs, mode)
        np.testing.assert_array_equal(flips(labels, needs, mode), r)
        np.testing.assert_array_equal(backfilled(labels, needs, mode), filled)


def test_vector_3_backfill() -> None:
    """The dependency comes at step 0, the item at step 3: steps 1 to 3 answer for it."""
    labels = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [1, 1]], bool)
    needs = np.array([[0, 0], [1, 0]], bool)
    np.testing.assert_array_equal(backfilled(labels, needs)[:, 1], [0, 1, 1, 1, 0])
    np.testing.assert_array_equal(flips(labels, needs)[:, 1], [0, 0, 0, 1, 0])


def test_states_begin_empty_and_only_grow() -> None:
    for labels, needs, _ in tables(200):
        satisfied = states(labels, needs, Satisfied.gated)
        assert not satisfied[0].any()
        assert (satisfied[1:] >= satisfied[:-1]).all()


def group(rollouts: int, seed: int, steps: int = 4) -> list[JudgedTurn]:
    rng = np.random.default_rng(seed)
    labels = [rng.random((int(rng.integers(1, steps + 1)), 3)) < 0.4 for _ in range(rollouts)]
    return [JudgedTurn(labels=table, dependencies=NEEDS, weights=WEIGHTS) for table in labels]


@pytest.mark.parametrize("normalise", [False, True])
def test_step_advantages_against_the_equations(normalise: bool) -> None:
    turns = group(8, seed=3)
    ever = np.array([[looped(t.labels, NEEDS, Satisfied.gated)[0][:, c].any() for c in range(3)] for t in turns])
    share = ever.mean(axis=0)
    np.testing.assert_allclose((ever - share).mean(axis=0), 0, atol=1e-12)
    for turn, advantages in zip(turns, step_advantages(turns, normalise=normalise), strict=True):
        filled = looped(turn.labels, NEEDS, Satisfied.gated)[1]
        sat = states(turn.labels, NEEDS, Satisfied.gated)
        for s in range(len(turn.labels)):
            above = below = 0.0
            for c in range(3):
                if not sat[s][c] and all(sat[s][d] for d in range(3) if NEEDS[c, d]):
                    scale = ever[:, c].std() + 1e-6 if normalise else 1.0
                    above += WEIGHTS[c] * (filled[s, c] - share[c]) / scale
                    below += WEIGHTS[c]
            assert advantages is not None
            assert advantages[s] == pytest.approx(above / below if below else 0.0, abs=1e-12)


def test_what_cannot_be_earned_does_not_count() -> None:
    """Changing the label of an item whose dependency never held changes no advantage."""
    turns = group(6, seed=5)
    blocked = np.array([[1, 0, 0], [1, 0, 0]], bool)
    early = np.array([[1, 0, 1], [1, 0, 1]], bool)
    for labels in (blocked, early):
        assert not eligible(labels, NEEDS)[:, 2].any()
    one = step_advantages([*turns, JudgedTurn(labels=blocked, dependencies=NEEDS, weights=WEIGHTS)])
    two = step_advantages([*turns, JudgedTurn(labels=early, dependencies=NEEDS, weights=WEIGHTS)])
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("holders", "zero"), [(4, True), (5, False)])
def test_items_with_few_holders_teach_nothing(holders: int, zero: bool) -> None:
    turns = [*group(holders, seed=7), None, None]
    advantages = step_advantages(turns)
    assert advantages[-1] is None
    assert all(not row.any() for row in advantages[:holders] if row is not None) is zero


def test_more_than_half_of_the_checklists_end_a_dialogue() -> None:
    assert proceeds([True]) and not proceeds([False])
    assert proceeds([True, False])  # half is not more than half
    assert not proceeds([True, False, False])
    turn = JudgedTurn(labels=VECTOR[:1], dependencies=NEEDS, weights=WEIGHTS)
    assert turn.proceeds(np.array([True, False, True]))
    assert not turn.proceeds(np.array([False, True, False]))
