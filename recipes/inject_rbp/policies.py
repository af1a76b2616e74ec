"""Policies over behaviours, as tables of probabilities [49 states, 6 behaviours], and the chains that they give.

The Reliability-Aware Softmax Policy trusts a value as far as it was seen::

    rho(s, a) = N(s, a) / (N(s, a) + kappa)        A(s, a) = Q(s, a) - V(s)
    pi(a | s) = rho(s, a) exp(rho(s, a) A(s, a) / tau) / Z(s)    over actions with N(s, a) >= 1

With rho = 1 it is the naive softmax, which a lucky action that was seen once can win. A state with fewer than N_state
visits is decided by the table of its last symbol alone, and where that is as poor by the Markov chain of right answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from raylign.recipes.inject_rbp.behaviours import CONCLUSION, SYMBOLS
from raylign.recipes.inject_rbp.patterns import Float64s, Int64s
from raylign.recipes.inject_rbp.values import ACTIONS, LAST, START, STATES, Values, states_of, visits

UNIFORM = np.full((STATES, ACTIONS), 1 / ACTIONS)


class Level(IntEnum):
    """What decides in a state."""

    markov = 0  # the chain of right answers
    last = 1  # the table of the last symbol
    pair = 2  # the state's own values


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax:
    """Settings of the policy. kappa = 0 is the naive softmax.

    Example: ``Softmax(tau=0.05, kappa=5, least=3).policy(values, markov(right_chains))``
    """

    tau: float
    kappa: float
    least: int  # N_state

    def probabilities(self, q: Float64s, n: Int64s) -> Float64s:
        """pi(a | s) of one state: its Q and N [6], at least one visit among them."""
        seen = n > 0
        rho = n / np.where(seen, n + self.kappa, 1)
        advantage = q - (n * q).sum() / n.sum()
        exponent = np.where(seen, rho * advantage / self.tau, -np.inf)
        weights = rho * np.exp(exponent - exponent.max())
        result: Float64s = weights / weights.sum()
        return result

    def levels(self, values: Values) -> Int64s:
        """What decides in each state, see `Level`. [49]"""
        own = values.n.sum(1) >= self.least
        last = np.tile(values.shorter().n.sum(1) >= self.least, LAST)
        return np.where(own, Level.pair, np.where(last, Level.last, Level.markov)).astype(np.int64)

    def policy(self, values: Values, backed_by: Float64s) -> Float64s:
        """pi of every state. backed_by: the Markov chain of right answers. [49, 6]"""
        shorter, table = values.shorter(), np.array(backed_by)
        for state, level in enumerate(self.levels(values)):
            if level == Level.pair:
                table[state] = self.probabilities(values.q[state], values.n[state])
            elif level == Level.last:
                table[state] = self.probabilities(shorter.q[state % LAST], shorter.n[state % LAST])
        return table


def markov(chains: Sequence[str], longest: int) -> Float64s:
    """p(b_t | b_{t-2}, b_{t-1}) of some chains' episodes; by b_{t-1} alone, or by neither, where that was never seen.

    chains: at least one that is not empty. [49, 6]
    """
    steps = visits(chains, [0.0] * len(chains), longest)
    pairs = np.bincount(steps.state * ACTIONS + steps.action, minlength=STATES * ACTIONS).reshape(LAST, LAST, ACTIONS)
    lasts, alone = pairs.sum(0), pairs.sum((0, 1))
    counts = np.where(lasts.sum(-1, keepdims=True) > 0, lasts, alone)
    counts = np.where(pairs.sum(-1, keepdims=True) > 0, pairs, counts).reshape(STATES, ACTIONS)
    result: Float64s = counts / counts.sum(-1, keepdims=True)
    return result


def roll(policy: Float64s, rng: np.random.Generator, count: int, longest: int) -> list[str]:
    """Chains under a policy, each from the start to a conclusion or to `longest` behaviours."""
    reach = policy.cumsum(1)
    state, going = np.full(count, START), np.ones(count, bool)
    chains = [""] * count
    for draws in rng.random((longest, count)):
        # the last behaviour that has any probability is the most that a draw can reach, whatever the sum rounds to
        action = np.minimum((reach[state] <= draws[:, None] * reach[state, -1:]).sum(1), ACTIONS - 1)
        for row in np.flatnonzero(going):
            chains[row] += SYMBOLS[action[row]]
        state = state % LAST * LAST + action
        going &= action != SYMBOLS.index(CONCLUSION)
        if not going.any():
            break
    return chains


def entropies(policy: Float64s) -> Float64s:
    """Entropy of pi(. | s) of each state, in nats. [49]"""
    there = policy > 0
    terms = np.where(there, policy * np.log(np.where(there, policy, 1)), 0.0)
    result: Float64s = -terms.sum(1)
    return result


def estimated_return(chain: str, values: Values, kappa: float) -> float:
    """sum_t rho_t Q_t / sum_t rho_t over the steps of a chain; minus infinity where none of them was ever seen."""
    places = (states_of(chain), [SYMBOLS.index(symbol) for symbol in chain])
    n, q = values.n[places], values.q[places]
    rho = n / np.where(n > 0, n + kappa, 1)
    return float((rho * q).sum() / rho.sum()) if rho.sum() > 0 else -np.inf


def best_of(chains: Sequence[str], values: Values, kappa: float) -> str:
    """Of the distinct chains the one with the highest estimated return, of equal ones the first."""
    return max(dict.fromkeys(chains), key=lambda chain: estimated_return(chain, values, kappa))
