"""Simulated users of P-GenRM's experiment: scores are drawn; clusters, routing, aggregation and ties are the recipe's.

Users have one of four hidden prototypes, two antipodal pairs, so that the mean of all users says nothing. A judge knows
a user by three noisy choices, drawn anew for every pair (the paper draws h of a user's choices for each), and every
chain adds noise of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raylign.recipes.p_genrm.combine import combined, mean_scores
from raylign.recipes.p_genrm.prototypes import clustered
from raylign.recipes.p_genrm.refine import Pair, Refinement, refined
from raylign.recipes.p_genrm.store import Store, nearest_of, of_length_one

Floats = NDArray[np.float64]
D, USERS, PAIRS, PAST = 8, 400, 20, 3
ARMS: Mapping[str, tuple[int, int]] = {
    "Ind-1": (1, 0),
    "Ind-8": (8, 0),
    "Ind-16": (16, 0),
    "Ind-32": (32, 0),
    "(4,4)": (4, 4),
    "(8,4)": (8, 4),
    "(16,8)": (16, 8),
    "(0,8)": (0, 8),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """How far users stand from their prototype, and whether neighbours are routed to or drawn at random."""

    spread: float = 0.15
    routed: bool = True


def accuracies(world: World, seed: int) -> dict[str, float]:
    """The share of held-out users' pairs that every arm judges as the user chose, in percent."""
    rng = np.random.default_rng([seed, 2602, 12116])
    axes = np.linalg.qr(rng.normal(size=(D, 2)))[0].T
    hidden = np.concatenate([axes, -axes])
    kinds = rng.integers(4, size=USERS)
    likes = of_length_one(hidden[kinds] + world.spread * rng.normal(size=(USERS, D)) / np.sqrt(D))
    builds = USERS * 3 // 4
    library = of_length_one(np.stack([_estimate(user, rng) for user in likes[:builds]]))
    _, centres = clustered(library, 4, 10, seed)
    names = tuple(f"u{number}" for number in range(builds))
    store = Store(
        prototypes=centres,
        vectors=library,
        members=nearest_of(library, centres),
        users=names,
        histories=((),) * builds,
        embedder="",
    )
    right: dict[str, list[bool]] = {arm: [] for arm in ARMS}
    for user in range(builds, USERS):
        for _ in range(PAIRS):
            known = of_length_one(_estimate(likes[user], rng)[None])
            near = store.neighbours(known[0], 8, f"u{user}")
            if not world.routed:
                near = rng.choice(builds, 8, replace=False).tolist()
            answers = rng.normal(size=(2, D))
            chosen = int(np.argmax(answers @ likes[user] + rng.gumbel(0, 0.25, 2)))
            own = _scores(np.repeat(known, 32, axis=0), answers, rng)
            lent = _scores(library[near], answers, rng)
            for arm, (m, n) in ARMS.items():
                totals = combined(mean_scores(own[:m]), mean_scores(lent[:n]), (0.5, 0.5))
                right[arm].append(totals is not None and int(np.argmax(totals)) == chosen)  # of equal ones the first
    return {arm: 100 * float(np.mean(values)) for arm, values in right.items()}


def _estimate(user: Floats, rng: np.random.Generator) -> Floats:
    """The sum of chosen minus rejected over some past pairs."""
    total = np.zeros(D)
    for _ in range(PAST):
        answers = rng.normal(size=(2, D))
        chosen = int(np.argmax(answers @ user + rng.gumbel(0, 0.25, 2)))
        total += answers[chosen] - answers[1 - chosen]
    return total


def _scores(known: Floats, answers: Floats, rng: np.random.Generator) -> list[list[float]]:
    """One chain for each row of `known`: its scores of both answers, in steps of a half from 1 to 10."""
    personas = of_length_one(known + 0.9 * rng.normal(size=known.shape) / np.sqrt(D))
    scores: list[list[float]] = np.clip(np.round(2 * (5.5 + 2.2 * personas @ answers.T)) / 2, 1, 10).tolist()
    return scores


# ----------------------------------------------------------------------------------------------------- refinement


def refinement(seed: int, dimensions: int = 8, rows: int = 16_000) -> tuple[float, float]:
    """Agreement with held-out choices, in percent: of z_t after one epoch, and of the unrefined centroid.

    A user's taste is that of the cluster, bent by the query and by what the user has chosen before.
    """
    import torch

    rng = np.random.default_rng([seed, 4567])
    hidden = of_length_one(rng.normal(size=(6, dimensions)))
    bend = rng.normal(size=(dimensions, dimensions)) / np.sqrt(dimensions)
    kinds = rng.integers(6, size=rows + 2000)
    own = of_length_one(rng.normal(size=(len(kinds), dimensions)))
    queries = of_length_one(rng.normal(size=(len(kinds), dimensions)))
    vectors = of_length_one(hidden[kinds] + 0.3 * rng.normal(size=(len(kinds), dimensions)) / np.sqrt(dimensions))
    pairs = []
    for kind, user, query in zip(kinds, own, queries, strict=True):
        past = [
            _choice(hidden[kind] + 0.5 * user + bend @ asked, asked, rng)
            for asked in of_length_one(rng.normal(size=(3, dimensions)))
        ]
        now = _choice(hidden[kind] + 0.5 * user + bend @ query, query, rng)
        pairs.append(Pair(query=query, difference=now[1], past=tuple(past)))
    labels, centres = clustered(vectors[:rows], 6, 10, seed)
    means = np.stack([vectors[:rows][labels == j].mean(axis=0) for j in range(6)])
    members = [[pairs[row] for row in np.flatnonzero(labels == j)] for j in range(6)]
    prototypes, model = refined(centres, means, members, Refinement(), seed)
    held = nearest_of(vectors[rows:], prototypes)
    after, before = 0, 0
    for j in range(6):
        some = [pairs[rows + row] for row in np.flatnonzero(held == j)]
        if some:
            with torch.no_grad():
                after += int((model(some, torch.from_numpy(prototypes[j].copy())) > 0).sum())
            before += sum(bool(centres[j] @ pair.difference > 0) for pair in some)
    return 100 * after / len(held), 100 * before / len(held)


def pulled(seed: int, strength: float) -> float:
    """The largest |a_j - mu_j| after one epoch with this lambda_cent, in tight clusters."""
    rng = np.random.default_rng([seed, 89])
    hidden = np.eye(16)[:3]
    vectors = of_length_one(hidden[np.arange(600) % 3] + 0.05 * rng.normal(size=(600, 16)) / 4)
    labels, centres = clustered(vectors, 3, 10, seed)
    means = np.stack([vectors[labels == j].mean(axis=0) for j in range(3)])
    pairs = [Pair(query=v, difference=rng.normal(size=16), past=((v, rng.normal(size=16)),)) for v in vectors]
    members = [[pairs[row] for row in np.flatnonzero(labels == j)] for j in range(3)]
    prototypes, _ = refined(centres, means, members, Refinement(centre=strength), seed)
    return float(np.linalg.norm(prototypes - means, axis=1).max())


def _choice(taste: Floats, query: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """(query, chosen minus rejected) of answers that are random vectors."""
    difference = of_length_one(rng.normal(size=len(taste)))
    keep = taste @ difference + 0.1 * rng.logistic() > 0
    return query, difference if keep else -difference
