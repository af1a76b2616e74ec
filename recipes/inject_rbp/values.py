"""What it is worth to go on with a behaviour: the values of a small MDP, from logged chains and their outcomes.

State s_t = (b_{t-2}, b_{t-1}), padded with BOS; action a_t = b_t, so (s_t, a_t) is a pattern. An episode ends with its
first conclusion, with its chain, or after L_max behaviours; the only reward R comes at the end::

    mc    Q(s, a) = mean of gamma^(L - 1 - t) R over every visit of (s, a)
    fqi   Q(s, a) <- mean over visits of  R at an end, else gamma max_{a': N(s', a') >= N_min} Q(s', a')
    V(s) = sum_a N(s, a) Q(s, a) / sum_a N(s, a)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from raylign.recipes.inject_rbp.behaviours import CONCLUSION, SYMBOLS
from raylign.recipes.inject_rbp.patterns import Float64s, Int64s

ACTIONS = len(SYMBOLS)
BOS = ACTIONS  # the symbol before the first
LAST = ACTIONS + 1  # symbols that may stand last: the six, or BOS
STATES = LAST * LAST
START = BOS * LAST + BOS


class ValueEstimate(Enum):
    """How values are found."""

    mc = "mc"  # every-visit discounted Monte-Carlo means
    fqi = "fqi"  # tabular batch Q-iteration


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """Q and visits N of every state and action: [49, 6] of pairs, or [7, 6] of last symbols alone.

    Example: ``monte_carlo(["PVC"], [1.0], 0.98, 14).q[START, 1]`` is 0.98 ** 2
    """

    q: Float64s  # 0 where N is 0
    n: Int64s

    @property
    def v(self) -> Float64s:
        """V(s), 0 where nothing was seen. [S]"""
        visits = self.n.sum(1)
        mean: Float64s = (self.n * self.q).sum(1) / np.maximum(visits, 1)
        return mean

    def shorter(self) -> Values:
        """The table of last symbols alone: all states that end in one, weighted by their visits."""
        n = self.n.reshape(LAST, LAST, ACTIONS)
        total = n.sum(0)
        q = (n * self.q.reshape(LAST, LAST, ACTIONS)).sum(0) / np.maximum(total, 1)
        return Values(q=q, n=total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visits:
    """All steps of all episodes, in order. [T] each"""

    state: Int64s
    action: Int64s
    left: Int64s  # steps that follow in the episode, 0 at its end
    reward: Float64s  # R of the episode


def episode(chain: str, longest: int) -> str:
    """What of a chain counts: to its first conclusion, and at most `longest` behaviours."""
    end = chain.find(CONCLUSION)
    return chain[: min(longest, len(chain) if end < 0 else end + 1)]


def states_of(chain: str) -> list[int]:
    """The state before each behaviour."""
    numbers = [BOS, BOS, *(SYMBOLS.index(symbol) for symbol in chain)]
    return [numbers[t] * LAST + numbers[t + 1] for t in range(len(chain))]


def visits(chains: Sequence[str], rewards: Sequence[float], longest: int) -> Visits:
    """The steps of the episodes of some chains; rewards: R of each."""
    state, action, left, reward = list[int](), list[int](), list[int](), list[float]()
    for chain, outcome in zip(chains, rewards, strict=True):
        steps = episode(chain, longest)
        state += states_of(steps)
        action += [SYMBOLS.index(symbol) for symbol in steps]
        left += range(len(steps) - 1, -1, -1)
        reward += [outcome] * len(steps)
    integers = (np.array(values, np.int64) for values in (state, action, left))
    return Visits(**dict(zip(("state", "action", "left"), integers, strict=True)), reward=np.array(reward, np.float64))


def monte_carlo(chains: Sequence[str], rewards: Sequence[float], gamma: float, longest: int) -> Values:
    """Every-visit means of the discounted outcome."""
    steps = visits(chains, rewards, longest)
    n, total = _summed(steps, gamma**steps.left * steps.reward)
    return Values(q=total / np.maximum(n, 1), n=n)


def fitted_q(
    chains: Sequence[str], rewards: Sequence[float], gamma: float, longest: int, *, least: int = 3, sweeps: int = 200
) -> Values:
    """Q-iteration over the logged steps. least: N_min, visits of an action that the maximum may rest on.

    Where a state has no action with so many visits, its V stands in place of the maximum.
    """
    steps = visits(chains, rewards, longest)
    ends = steps.left == 0
    n, earned = _summed(steps, np.where(ends, steps.reward, 0.0))
    going_on, _ = _summed(steps, np.zeros(len(steps.state)), ~ends)
    after = (np.arange(STATES) % LAST)[:, None] * LAST + np.arange(ACTIONS)  # s' of each (s, a)
    trusted = n >= least
    q = np.zeros((STATES, ACTIONS))
    for _ in range(sweeps):
        best = np.where(trusted, q, -np.inf).max(1)
        best = np.where(trusted.any(1), best, Values(q=q, n=n).v)
        q = (earned + gamma * going_on * best[after]) / np.maximum(n, 1)
    return Values(q=q, n=n)


def _summed(steps: Visits, values: Float64s, which: np.ndarray | None = None) -> tuple[Int64s, Float64s]:
    """Visits of every pair and the sum of some values over them, of all steps or of some. [49, 6] each"""
    chosen = np.ones(len(values), bool) if which is None else which
    place = (steps.state * ACTIONS + steps.action)[chosen]
    n = np.bincount(place, minlength=STATES * ACTIONS).astype(np.int64)
    total = np.bincount(place, values[chosen], STATES * ACTIONS).astype(np.float64)
    return n.reshape(STATES, ACTIONS), total.reshape(STATES, ACTIONS)
