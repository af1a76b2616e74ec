"""Test A of InjectRBP's digest: a simulated reasoner, a Markov chain of behaviours that succeeds by their patterns.

Behaviours follow each other by `ROWS`, at most 14 of them. P(right) = sigmoid(-0.4 + distinct good patterns + every
occurrence of a bad one - 0.05 max(0, L - 8) - 2 without a conclusion). The reasoner follows an injected policy at 7 of
10 steps. The history are K chains with labels drawn by P(right); an arm is judged by the mean P(right) of 6,000 chains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raylign.contracts import PlacedRow
from raylign.recipes.inject_rbp.families import Family
from raylign.recipes.inject_rbp.policies import Softmax, markov, roll
from raylign.recipes.inject_rbp.table import PatternTable
from raylign.recipes.inject_rbp.values import LAST

Float64s = NDArray[np.float64]

LONGEST = 14
COMPLIANCE = 0.7
ROWS = {  # the next behaviour O, P, S, E, V, C after none (^) and after each
    "O": (0.05, 0.70, 0.05, 0.10, 0.05, 0.05),
    "P": (0.02, 0.55, 0.10, 0.13, 0.08, 0.12),
    "S": (0.02, 0.40, 0.05, 0.13, 0.15, 0.25),
    "E": (0.02, 0.50, 0.05, 0.25, 0.10, 0.08),
    "V": (0.02, 0.40, 0.10, 0.10, 0.08, 0.30),
    "C": (0.0, 0.0, 0.0, 0.0, 0.0, 1.0),  # never left
    "^": (0.80, 0.15, 0.02, 0.01, 0.01, 0.01),
}
GOOD = {"EPV": 1.0, "PVC": 1.0, "VSC": 0.9, "PVP": 0.6, "VEP": 0.6}  # once each
BAD = {"EEE": -0.8, "PPC": -0.6, "PEC": -0.6, "PPP": -0.5, "EEP": -0.3}  # every time


def habits() -> Float64s:
    """The reasoner's own policy. [49, 6]"""
    rows = np.array(list(ROWS.values()))
    return np.tile(rows / rows.sum(1, keepdims=True), (LAST, 1))


def chance(chain: str) -> float:
    """P(right) of a chain."""
    places = [chain[start : start + 3] for start in range(len(chain) - 2)]
    z = -0.4 + sum(GOOD.get(gram, 0.0) for gram in set(places)) + sum(BAD.get(gram, 0.0) for gram in places)
    z -= 0.05 * max(0, len(chain) - 8) + (0.0 if chain.endswith("C") else 2.0)
    return float(1 / (1 + np.exp(-z)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """Settings of the policies that are compared."""

    tau: float = 0.05  # of the reliability-aware policy
    naive_tau: float = 0.03
    kappa: float = 5.0

    def policies(self, family: Family) -> Mapping[str, Float64s | None]:
        """What each arm injects; None: nothing."""
        aware = Softmax(tau=self.tau, kappa=self.kappa, least=3)
        naive = Softmax(tau=self.naive_tau, kappa=0.0, least=3)
        return {
            "none": None,
            "incorrect": markov(family.wrong, LONGEST),
            "correct": family.markov(),
            "naive": family.policy(naive),
            "rasp": family.policy(aware),
        }


def followed(injected: Float64s | None) -> Float64s:
    """The reasoner's policy under an injection."""
    own = habits()
    return own if injected is None else COMPLIANCE * injected + (1 - COMPLIANCE) * own


def history(size: int, seed: int) -> list[PlacedRow]:
    """Rows of so many chains, with outcomes."""
    rng = np.random.default_rng([seed, 1])
    chains = roll(habits(), rng, size, LONGEST)
    labels = rng.random(size) < [chance(chain) for chain in chains]
    return [
        PlacedRow(f"simulated:{number}", {"chain": chain, "right": bool(label), "question": f"question {number}"})
        for number, (chain, label) in enumerate(zip(chains, labels, strict=True))
    ]


def simulate(size: int, seed: int, chains: int = 6000, arms: Arms = Arms(), **settings: object) -> dict[str, float]:
    """Mean P(right) of each arm, after a history of `size` chains."""
    fields = {"chain": "chain", "score": "right", "by": "", "question": "question", "longest": LONGEST}
    table = PatternTable(PatternTable.Config(**{**fields, "permutations": 1, **settings}))  # type: ignore[arg-type]
    table.fit(history(size, seed), seed)
    scores = {}
    for number, (name, injected) in enumerate(arms.policies(table.whole).items()):
        rng = np.random.default_rng([seed, 2, number])
        scores[name] = float(np.mean([chance(chain) for chain in roll(followed(injected), rng, chains, LONGEST)]))
    return scores
