"""One family of questions: its traces by outcome, its values, and the policies that follow from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from raylign.recipes.inject_rbp.behaviours import SYMBOLS
from raylign.recipes.inject_rbp.history import Trace
from raylign.recipes.inject_rbp.patterns import GRAMS, Float64s, distribution, frequencies
from raylign.recipes.inject_rbp.policies import Level, Softmax, entropies, markov
from raylign.recipes.inject_rbp.values import LAST, STATES, ValueEstimate, Values, fitted_q, monte_carlo


class Outcome(Enum):
    """The reward R of an answer."""

    zero_one = "zero_one"
    plus_minus = "plus_minus"  # -1 or 1
    centred = "centred"  # 0 or 1, less the mean of all answers to the question: how hard it is plays no part


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimation:
    """How values are estimated. Example: ``Estimation(values=ValueEstimate.mc, gamma=0.98, ...)``"""

    values: ValueEstimate
    gamma: float
    outcome: Outcome
    least: int  # N_min
    sweeps: int
    right: float  # score from which an answer counts as right
    longest: int  # L_max


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What is known of a family. `name` is empty for all families together."""

    name: str
    right: tuple[str, ...]  # chains
    wrong: tuple[str, ...]
    values: Values
    longest: int

    @property
    def chains(self) -> tuple[str, ...]:
        """Of all its traces."""
        return (*self.right, *self.wrong)

    def markov(self) -> Float64s:
        """The Markov chain of right answers. Only where there is one that is not empty."""
        return markov(self.right, self.longest)

    def policy(self, softmax: Softmax) -> Float64s:
        """The softmax policy of its values."""
        return softmax.policy(self.values, self.markov())

    def entropy(self, softmax: Softmax) -> float:
        """Mean entropy of the policy over all visits, in nats."""
        visited = self.values.n.sum(1)
        return float((visited * entropies(self.policy(softmax))).sum() / visited.sum())

    def tables(self, softmax: Softmax) -> dict[str, Any]:
        """Frequencies of right and wrong traces, and N, Q, V and pi with its entropy of every state that was seen."""
        policy, levels = self.policy(softmax), softmax.levels(self.values)
        spread, v = entropies(policy), self.values.v
        states = {
            state_name(state): {
                "n": dict(zip(SYMBOLS, self.values.n[state].tolist(), strict=True)),
                "q": dict(zip(SYMBOLS, self.values.q[state].tolist(), strict=True)),
                "v": float(v[state]),
                "pi": dict(zip(SYMBOLS, policy[state].tolist(), strict=True)),
                "entropy": float(spread[state]),
                "decided_by": Level(levels[state]).name,
            }
            for state in range(STATES)
            if self.values.n[state].sum()
        }
        kinds = {"right": self.right, "wrong": self.wrong}
        counts = {name: frequencies(chains).tolist() for name, chains in kinds.items()}
        seen = {name: {g: n for g, n in zip(GRAMS, row, strict=True) if n} for name, row in counts.items()}
        return {"traces": {name: len(chains) for name, chains in kinds.items()}, "frequencies": seen, "states": states}


def family_of(name: str, traces: Sequence[Trace], how: Estimation) -> Family:
    """The family that these traces make."""
    chains, rewards = [trace.chain for trace in traces], rewards_of(traces, how)
    if how.values is ValueEstimate.mc:
        values = monte_carlo(chains, rewards, how.gamma, how.longest)
    else:
        values = fitted_q(chains, rewards, how.gamma, how.longest, least=how.least, sweeps=how.sweeps)
    sides = {side: tuple(t.chain for t in traces if (t.score >= how.right) is side) for side in (True, False)}
    return Family(name=name, right=sides[True], wrong=sides[False], values=values, longest=how.longest)


def rewards_of(traces: Sequence[Trace], how: Estimation) -> list[float]:
    """R of each trace."""
    right = [float(trace.score >= how.right) for trace in traces]
    if how.outcome is Outcome.zero_one:
        return right
    if how.outcome is Outcome.plus_minus:
        return [2 * reward - 1 for reward in right]
    by_question: dict[str, list[float]] = defaultdict(list)
    for trace, reward in zip(traces, right, strict=True):
        by_question[trace.asked].append(reward)
    return [reward - float(np.mean(by_question[trace.asked])) for trace, reward in zip(traces, right, strict=True)]


def p_right(family: Family) -> Float64s:
    """p_{D+}(g). [216]"""
    return distribution(frequencies(family.right))


def p_wrong(family: Family) -> Float64s:
    """p_{D-}(g). [216]"""
    return distribution(frequencies(family.wrong))


def state_name(state: int) -> str:
    """The two symbols before, ``^`` for none. Example: ``^O``"""
    letters = f"{SYMBOLS}^"
    return letters[state // LAST] + letters[state % LAST]
