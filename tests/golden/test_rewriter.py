"""The rewriter's formulas from the symbols of the paper's digest, float64, and the pitfalls that it names."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from raylign.recipes.rewriter import terms

EPS = 1e-6
LAMBDA_DIST, LAMBDA_DIV = 0.35, 0.5
WEIGHTS = terms.Weights(distribution=LAMBDA_DIST, diversity=LAMBDA_DIV)
NLL = [0.31, 0.52, 0.47, 1.9]


def units(seed: int, count: int, dimensions: int = 5) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def r_dist(losses: list[float]) -> np.ndarray:
    """Step 4, sample by sample."""
    known = [loss for loss in losses if np.isfinite(loss)]
    mu = sum(known) / len(known)
    sigma = (sum((loss - mu) ** 2 for loss in known) / len(known)) ** 0.5 + EPS if len(known) >= 2 else 1.0
    hats = [(loss - mu) / (sigma + EPS) for loss in losses]
    return np.array([1 / (1 + np.exp(hat)) if np.isfinite(hat) else 0.0 for hat in hats])


def D(vectors: np.ndarray) -> float:
    """Step 5: the mean over unordered pairs."""
    pairs = [(1 - float(u @ v)) / 2 for u, v in combinations(vectors, 2)]
    return sum(pairs) / len(pairs) if pairs else 0.0


def r_div(vectors: np.ndarray) -> np.ndarray:
    """Step 5: by leaving each of them out."""
    if len(vectors) < 2:
        return np.zeros(len(vectors))
    return np.array([max(0.0, D(vectors) - D(np.delete(vectors, i, axis=0))) for i in range(len(vectors))])


def test_below_average_losses_are_paid_more_than_half() -> None:
    paid = terms.likeness(NLL)
    np.testing.assert_allclose(paid, r_dist(NLL), atol=1e-12)
    assert (paid[:3] > 0.5).all() and paid[3] < 0.5


def test_a_loss_alone_is_paid_half() -> None:
    assert terms.likeness([3.0]).tolist() == [0.5]  # sigma is 1, not 0


def test_equal_losses_are_paid_half() -> None:
    np.testing.assert_allclose(terms.likeness([0.4] * 5), 0.5, atol=1e-12)


def test_a_group_that_is_uniformly_bad_is_paid_as_a_good_one() -> None:
    """The whitening sees the group alone: real progress shows in the absolute loss only."""
    np.testing.assert_allclose(terms.likeness(np.add(NLL, 7.0)), terms.likeness(NLL), atol=1e-12)
    assert abs(terms.likeness(NLL).mean() - 0.5) < 0.1


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_loss_that_is_not_finite_is_paid_nothing_and_moves_nobody(bad: float) -> None:
    paid = terms.likeness([0.3, bad, 0.5])
    np.testing.assert_allclose(paid[[0, 2]], r_dist([0.3, 0.5]), atol=1e-12)
    assert paid[1] == 0.0
    assert terms.likeness([bad, bad]).tolist() == [0.0, 0.0]
    assert terms.likeness([bad, 0.4]).tolist() == [0.0, 0.5]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 10])
def test_the_identity_is_the_definition(count: int) -> None:
    for seed in range(5):
        vectors = units(seed, count)
        np.testing.assert_allclose(terms.diversity(vectors), r_div(vectors), atol=1e-12)
        assert terms.spread(vectors) == pytest.approx(D(vectors), abs=1e-12)


def test_two_are_paid_their_distance_and_one_nothing() -> None:
    opposite = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert terms.diversity(opposite).tolist() == [1.0, 1.0] and terms.diversity(opposite[:1]).tolist() == [0.0]


def test_only_members_farther_than_average_are_paid() -> None:
    crowd = np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]])
    paid = terms.diversity(crowd)
    d = np.array([0.125] * 4 + [0.5])  # mean distance to the others
    np.testing.assert_allclose(paid, np.maximum(0, 2 * (d - 0.2) / 3), atol=1e-12)
    assert (paid[:4] == 0).all() and paid[4] == pytest.approx(0.2)


def test_equal_texts_have_no_diversity_in_spite_of_rounding() -> None:
    one = units(3, 1).astype(np.float32).astype(np.float64)
    assert np.abs(terms.diversity(np.repeat(one, 6, axis=0))).max() < 1e-6


@pytest.mark.parametrize("passed", [[0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]])
def test_the_gate_is_hard(passed: list[int]) -> None:
    t = np.array(passed, float)
    inside = np.flatnonzero(t)
    losses, vectors = [NLL[i] for i in inside], units(1, 3)[inside]
    given = terms.terms_of(t, losses, vectors, WEIGHTS)
    expected = np.zeros(3)
    if len(inside):
        expected[inside] = 1 + LAMBDA_DIST * r_dist(losses) + LAMBDA_DIV * r_div(vectors)
    np.testing.assert_allclose(given.reward, expected, atol=1e-12)
    feasible, rest = given.reward[t == 1], given.reward[t == 0]
    assert (feasible >= 1).all() and (rest == 0).all()
    assert (feasible <= 1 + LAMBDA_DIST + LAMBDA_DIV * given.apart[t == 1]).all()


def test_a_soft_gate_compares_everybody() -> None:
    t, vectors, w = np.array([1.0, 0, 0]), units(2, 3), 0.1
    soft = terms.Weights(distribution=LAMBDA_DIST, diversity=LAMBDA_DIV, soft_gate=w)
    assert soft.compared(t).tolist() == [0, 1, 2] and WEIGHTS.compared(t).tolist() == [0]
    given = terms.terms_of(t, NLL[:3], vectors, soft).reward
    np.testing.assert_allclose(given, w * t + LAMBDA_DIST * r_dist(NLL[:3]) + LAMBDA_DIV * r_div(vectors), atol=1e-12)


def test_an_order_of_samples_is_an_order_of_rewards() -> None:
    t, order = np.array([1.0, 1, 0, 1, 1, 1]), np.array([4, 2, 0, 5, 3, 1])
    losses, vectors = np.array([0.3, 0.9, 0.0, 0.5, np.inf, 0.4]), units(7, 6)

    def paid(numbers: np.ndarray) -> np.ndarray:
        inside = numbers[t[numbers] == 1]
        return terms.terms_of(t[numbers], losses[inside], vectors[inside], WEIGHTS).reward

    np.testing.assert_allclose(paid(order), paid(np.arange(6))[order], atol=1e-12)
