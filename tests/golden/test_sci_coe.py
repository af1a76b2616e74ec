"""Sci-CoE's formulas from the symbols of the paper's digest, float64, and the pitfalls that it names."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from raylign.recipes.sci_coe import anchored, geometry, k_means, matrix

TAU = 0.8
# Rows are solutions, columns strategies.
J = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [0, 1, 0, 0, 1], [0, 1, 0, 0, 0]], np.float64)
E = np.array([[1, 0], [0.8, 0.6], [-1, 0], [-0.8, 0.6], [-0.8, -0.6]], np.float64)
SCALE = 1.4142135623730951 + 1e-8
# Two clusters, {1, 2} with centre (.9, .3) and {3, 4, 5} with centre (-2.6/3, 0):
DISTANCES = np.array([0.1**0.5, 0.1**0.5, 0.4 / 3, (0.04 / 9 + 0.36) ** 0.5, (0.04 / 9 + 0.36) ** 0.5])
# E minus its mean (-.16, .12), and half of 1 - cosine to each other of these, in hundredths of what stands beside:
CENTRED = [(1.16, -0.12), (0.96, 0.48), (-0.84, -0.12), (-0.64, 0.48), (-0.64, -0.72)]


def by_hand_d() -> np.ndarray:
    """From the centred points themselves: in two dimensions the principal plane is the plane."""
    values = []
    for j, (x, y) in enumerate(CENTRED):
        cosines = [
            (x * u + y * v) / ((x * x + y * y) ** 0.5 * (u * u + v * v) ** 0.5)
            for other, (u, v) in enumerate(CENTRED)
            if other != j
        ]
        values.append(sum((1 - cosine) / 2 for cosine in cosines) / 4)
    return np.array(values)


def rules(**changed: object) -> geometry.Rules:
    plain = {"tau": TAU, "label": geometry.LabelRule.relative, "leave_one_out": False, "clusters": 2}
    return geometry.Rules(**{**plain, **changed})  # type: ignore[arg-type]


def test_the_table_of_four_solutions_and_five_strategies() -> None:
    shares = geometry.consensus(J)
    np.testing.assert_allclose(shares, [0.8, 0.6, 0.4, 0.2], atol=1e-9)
    np.testing.assert_allclose(geometry.normalised(shares, TAU), [1, 0.75, 0.5, 0.25], atol=1e-9)
    assert geometry.pseudo_labels(shares, TAU, geometry.LabelRule.relative).tolist() == [True, False, False, False]
    parts = geometry.terms(J, E, rules(), seed=0)
    c, r, d = np.array([2 / 3, 0, 2 / 3, 1, -1 / 3]), 1 - DISTANCES / SCALE, by_hand_d()
    np.testing.assert_allclose(parts.consistency, c, atol=1e-9)
    np.testing.assert_allclose(parts.reliability, r, atol=1e-9)
    np.testing.assert_allclose(parts.diversity, d, atol=1e-9)
    np.testing.assert_allclose(d, [0.695988, 0.685089, 0.556042, 0.564319, 0.583247], atol=5e-7)
    total = geometry.combined(parts, (1.0, 0.5, 1.0), geometry.Combine.sum)
    np.testing.assert_allclose(total, c + 0.5 * r + d, atol=1e-9)
    multiplied = geometry.combined(parts, (1.0, 0.5, 1.0), geometry.Combine.product)
    np.testing.assert_allclose(multiplied, c * r * d ** (1 / 3), atol=1e-9)


def test_leaving_out_a_strategys_own_votes() -> None:
    """Without strategy 4, whose vote made solution 1 stand out, solutions 1 and 2 are equally agreed on."""
    c = geometry.consistency(J, TAU, geometry.LabelRule.relative, leave_one_out=True)
    np.testing.assert_allclose(c, [2 / 3, 0, 2 / 3, 1 / 2, -1 / 3], atol=1e-9)


def reference_c(verdicts: np.ndarray, tau: float, absolute: bool, leave_one_out: bool) -> np.ndarray:
    """C by loops over what was asked."""
    n, m = verdicts.shape
    result = np.zeros(m)
    for j in range(m):
        shares = []
        for i in range(n):
            votes = [verdicts[i, k] for k in range(m) if not (leave_one_out and k == j)]
            votes = [vote for vote in votes if not np.isnan(vote)]
            shares.append(sum(votes) / len(votes) if votes else None)
        best = max((share for share in shares if share is not None), default=0.0)
        limit = tau if absolute else tau * best
        sides: tuple[list[float], list[float]] = ([], [])
        for i, share in enumerate(shares):
            if share is not None and not np.isnan(verdicts[i, j]):
                sides[not (best > 0 and share >= limit - 1e-12)].append(verdicts[i, j])
        if sides[0] and sides[1]:
            result[j] = sum(sides[0]) / len(sides[0]) - sum(sides[1]) / len(sides[1])
    return result


@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("rule", list(geometry.LabelRule))
def test_consistency_of_random_tables_with_and_without_gaps(rule: geometry.LabelRule, leave_one_out: bool) -> None:
    rng = np.random.default_rng(3)
    for gaps in (0.0, 0.3):
        for _ in range(40):
            verdicts = (rng.random((int(rng.integers(1, 7)), int(rng.integers(1, 7)))) < 0.6).astype(np.float64)
            verdicts[rng.random(verdicts.shape) < gaps] = np.nan
            expected = reference_c(verdicts, TAU, rule is geometry.LabelRule.absolute, leave_one_out)
            given = geometry.consistency(verdicts, TAU, rule, leave_one_out)
            np.testing.assert_allclose(given, expected, atol=1e-12)


def test_a_share_that_equals_the_limit_counts_whatever_its_binary_form() -> None:
    """.8 of .75 is .6, and .8 * .75 is more than .6 in binary."""
    assert 0.8 * 0.75 > 0.6
    labels = geometry.pseudo_labels(np.array([0.75, 0.6, 0.55]), 0.8, geometry.LabelRule.relative)
    assert labels.tolist() == [True, True, False]
    absolute = geometry.pseudo_labels(np.array([0.8, 0.79]), 0.8, geometry.LabelRule.absolute)
    assert absolute.tolist() == [True, False]


@pytest.mark.parametrize("rule", list(geometry.LabelRule))
def test_where_nothing_is_accepted_nothing_is_taken_to_be_right(rule: geometry.LabelRule) -> None:
    rejected = np.zeros((3, 4))
    assert not geometry.pseudo_labels(geometry.consensus(rejected), TAU, rule).any()
    assert not geometry.consistency(rejected, TAU, rule, False).any()


def test_a_strategys_own_votes_flatter_it_unless_they_are_left_out() -> None:
    """Strategies that decide by chance: C is well above 0 with few of them, and about 0 without their own votes."""
    rng = np.random.default_rng(0)
    tables = [(rng.random((8, 4)) < 0.5) * 1.0 for _ in range(300)]
    with_own, without = (
        np.mean([geometry.consistency(table, TAU, geometry.LabelRule.relative, left_out) for table in tables])
        for left_out in (False, True)
    )
    assert with_own > 0.2
    assert abs(without) < 0.05


# --------------------------------------------------------------------------------------------------- reliability


def test_clusters_are_the_best_of_all_partitions() -> None:
    """Against every way to divide six points among three clusters."""
    rng = np.random.default_rng(5)
    for trial in range(5):
        points = rng.normal(size=(6, 3))
        sums = []
        for labels in product(range(3), repeat=6):
            members = [points[np.array(labels) == k] for k in range(3)]
            sums.append(sum(((part - part.mean(axis=0)) ** 2).sum() for part in members if len(part)))
        labels = k_means.k_means(points, 3, seed=trial, restarts=32)
        members = [points[labels == k] for k in range(3)]
        given = sum(((part - part.mean(axis=0)) ** 2).sum() for part in members if len(part))
        assert given == pytest.approx(min(sums), abs=1e-9)


def test_a_lone_outlier_is_not_reliable() -> None:
    """Its distance to its own centre is 0: without the rule for single members it would be the most reliable."""
    near = np.array([[1, 0, 0], [0.995, 0.0998749, 0], [0.995, -0.0998749, 0], [0.98, 0, 0.1989975]])
    vectors = np.vstack([near, [[-0.5, -0.5, -(0.5**0.5)]]])
    labels = k_means.k_means(vectors, 2, seed=1)
    assert labels.tolist().count(labels[4]) == 1
    r = geometry.reliability(vectors, labels)
    assert r[4] == 0.0 and (r[:4] > 0.85).all()


def test_a_group_of_strangers_is_not_made_reliable_by_its_own_scale() -> None:
    """Orthogonal vectors in one cluster: min-max within the group would give 1 to some of them."""
    vectors = np.eye(6)
    r = geometry.reliability(vectors, np.zeros(6, np.int64))
    np.testing.assert_allclose(r, 1 - (5 / 6) ** 0.5 / SCALE, atol=1e-12)
    assert (r < 0.36).all()
    opposite = np.array([[1.0, 0.0]] + [[-1.0, 0.0]] * 9)
    assert geometry.reliability(opposite, np.zeros(10, np.int64))[0] == 0.0  # farther than the scale: not negative


# ----------------------------------------------------------------------------------------------------- diversity


def test_diversity_sees_neither_rotation_nor_reflection_nor_order() -> None:
    rng = np.random.default_rng(8)
    vectors = rng.normal(size=(9, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    verdicts = (rng.random((6, 9)) < 0.5) * 1.0
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    d = geometry.diversity(vectors)
    assert ((d >= 0) & (d <= 1)).all()
    np.testing.assert_allclose(geometry.diversity(vectors @ turn), d, atol=1e-9)
    np.testing.assert_allclose(geometry.diversity(-vectors), d, atol=1e-9)
    order = rng.permutation(9)
    before = geometry.combined(geometry.terms(verdicts, vectors, rules(clusters=4), 0), (1, 1, 1), geometry.Combine.sum)
    after = geometry.terms(verdicts[:, order], vectors[order], rules(clusters=4), 0)
    np.testing.assert_allclose(geometry.combined(after, (1, 1, 1), geometry.Combine.sum), before[order], atol=1e-9)


def test_a_strategy_that_is_said_twice_is_less_diverse_both_times() -> None:
    d = geometry.diversity(E)
    for j in range(len(E)):
        twice = geometry.diversity(np.vstack([E, E[j]]))
        assert twice[j] == pytest.approx(twice[-1], abs=1e-12) and twice[j] < d[j]


def test_a_vector_in_the_middle_has_no_angle_and_takes_the_mean_of_the_others() -> None:
    ring = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], np.float64)
    d = geometry.diversity(np.vstack([ring, [[0, 0, 0]]]))
    np.testing.assert_allclose(d[:4], (0.5 + 0.5 + 1) / 3, atol=1e-9)
    assert d[4] == pytest.approx(d[:4].mean())
    assert not geometry.diversity(np.ones((4, 3))).any()  # nobody has an angle
    np.testing.assert_allclose(geometry.diversity(np.array([[1.0, 0], [0, 1.0]])), [1, 1], atol=1e-9)
    assert geometry.diversity(np.ones((1, 3))).tolist() == [0.0]


# ------------------------------------------------------------------------------------------------ anchored stage


def test_strategies_graded_by_labels() -> None:
    """Strict: CURE's reward of a unit test, adapted. Smooth: the difference of the two shares."""
    right = np.array([True, True, False, False])
    verdicts = np.array([[1, 1, 0, 1], [1, 0, 1, 1], [0, 1, 0, 1], [1, 0, 0, 1]], np.float64)
    strict = anchored.graded_by_labels(verdicts, right, anchored.Grading.strict)
    np.testing.assert_allclose(strict, [0.5, -0.5, 0.0, 0.0], atol=1e-12)
    smooth = anchored.graded_by_labels(verdicts, right, anchored.Grading.smooth)
    np.testing.assert_allclose(smooth, [0.5, 0.0, 0.5, 0.0], atol=1e-12)
    all_right = np.ones(4, bool)
    np.testing.assert_allclose(
        anchored.graded_by_labels(verdicts, all_right, anchored.Grading.strict), [-1, -1, -1, 1], atol=1e-12
    )
    np.testing.assert_allclose(
        anchored.graded_by_labels(verdicts, all_right, anchored.Grading.smooth), [0.5, 0, -0.5, 1], atol=1e-12
    )


# -------------------------------------------------------------------------------------------------------- matrix


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Units agree.\nCORRECT", True),
        ("Correct so far, but the sign is wrong.\nINCORRECT", False),
        ("incorrect? No: **correct**.", True),
        ('{"reason": "INCORRECT sign of nothing", "passed": true}', True),
        ("{'passed': False}", False),
        ("The result is not correct", False),
        ("It isn't fully correct.", False),
        ("The solution correctly recomputes it: CORRECT", True),
    ],
)
def test_the_last_verdict_of_a_reply_counts(reply: str, verdict: bool) -> None:
    assert matrix.read_verdict(reply) is verdict


@pytest.mark.parametrize("reply", ["", "I cannot tell.", "correctness is hard", "yes"])
def test_a_reply_without_a_verdict_is_none(reply: str) -> None:
    with pytest.raises(ValueError, match="CORRECT"):
        matrix.read_verdict(reply)


@pytest.mark.parametrize(("solutions", "strategies", "each"), [(8, 8, 3), (5, 12, 2), (7, 3, 5), (4, 5, 0), (4, 5, 9)])
def test_sub_sampling_asks_every_strategy_alike_and_every_solution_about_alike(
    solutions: int, strategies: int, each: int
) -> None:
    pairs = matrix.pairs_to_ask(solutions, strategies, each, seed=2)
    assert set(pairs.sum(axis=0)) == {min(each or solutions, solutions)}
    assert np.ptp(pairs.sum(axis=1)) <= 1
    assert (pairs == matrix.pairs_to_ask(solutions, strategies, each, seed=2)).all()
