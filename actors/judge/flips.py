"""From a judge's labels to rewards: when an item counts as satisfied, and which step earned it.

Notation of CM2 (arXiv:2602.12268): step s of a turn leads from state x_s to x_{s+1}; item c has weight w_c and depends
on Dep_c. Labels only ever add: an item once satisfied stays so (the judge said true at some step of the turn), so that
an item pays at most once and a turn between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from raylign.actors.judge.checklist import Flags, Float64s


class Satisfied(Enum):
    """What a label needs to count.

    `gated`: its dependencies held before the step; a label that came too early counts at the first later step that
    repeats it. `literal`: nothing, and a flip pays only where the dependencies held before it (eq. 2 as printed: an
    item that was true too early never pays). `code`: nothing at all; dependencies are not looked at (released code).
    """

    gated = "gated"
    literal = "literal"
    code = "code"


def states(labels: Flags, dependencies: Flags, mode: Satisfied) -> Flags:
    """[S + 1, C] whether each item is satisfied in state x_0 .. x_S. labels: [S, C], dependencies: [C, C]."""
    satisfied = np.zeros((len(labels) + 1, labels.shape[1]), bool)
    for step, said in enumerate(labels):
        counts = said & holds(satisfied[step], dependencies) if mode is Satisfied.gated else said
        satisfied[step + 1] = satisfied[step] | counts
    return satisfied


def holds(state: Flags, dependencies: Flags) -> Flags:
    """[C] whether all dependencies of each item are satisfied in a state ([C])."""
    return np.asarray(~(dependencies & ~state).any(axis=1))


def eligible(labels: Flags, dependencies: Flags, mode: Satisfied = Satisfied.gated) -> Flags:
    """[S, C] items that a step could still earn: dependencies held before it, not yet satisfied (E_{t,s} of eq. 10)."""
    satisfied = states(labels, dependencies, mode)[:-1]
    if mode is Satisfied.code:
        return ~satisfied
    return np.array([holds(state, dependencies) & ~state for state in satisfied], bool).reshape(labels.shape)


def flips(labels: Flags, dependencies: Flags, mode: Satisfied = Satisfied.gated) -> Float64s:
    """[S, C] r_{s,c} of eq. 1: 1 at the step that satisfied an item, if that step could earn it."""
    after = states(labels, dependencies, mode)[1:]
    return (eligible(labels, dependencies, mode) & after).astype(np.float64)


def backfilled(labels: Flags, dependencies: Flags, mode: Satisfied = Satisfied.gated) -> Float64s:
    """[S, C] every step that could earn an item which some step from then on did satisfy."""
    last = states(labels, dependencies, mode)[-1]
    return (eligible(labels, dependencies, mode) & last).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedTurn:
    """One checklist of one turn of one rollout.

    Example: ``JudgedTurn(labels=labels, dependencies=checklist.dependencies, weights=checklist.weights)``
    """

    labels: Flags  # [S, C]
    dependencies: Flags  # [C, C]
    weights: Float64s  # [C]

    def step_scores(self, mode: Satisfied = Satisfied.gated) -> Float64s:
        """[S] weight of what each step satisfied; they add up to the turn's score, between 0 and 1."""
        return flips(self.labels, self.dependencies, mode) @ self.weights

    def ever(self, mode: Satisfied = Satisfied.gated) -> Flags:
        """[C] whether each item pays at all in this turn."""
        return np.asarray(flips(self.labels, self.dependencies, mode).any(axis=0))

    def proceeds(self, must_pass: Flags) -> bool:
        """Whether every must-pass item was labelled true at some step. must_pass: [C]."""
        return bool((self.labels.any(axis=0) | ~must_pass).all())


def proceeds(votes: Sequence[bool]) -> bool:
    """Whether the dialogue continues after a turn with several checklists: unless more than half vote to end it."""
    return 2 * sum(not vote for vote in votes) <= len(votes)


def step_advantages(
    turns: Sequence[JudgedTurn | None],
    mode: Satisfied = Satisfied.gated,
    min_holders: int = 5,
    normalise: bool = False,
    epsilon: float = 1e-6,
) -> list[Float64s | None]:
    """A_{i,s} of eq. 8-10 for one checklist of one turn in all rollouts of a group; [S_i] each.

    turns[i] is None where rollout i did not reach the turn (or has no verdict). b_c is the share of the others in which
    item c was ever satisfied. With fewer than `min_holders` of them everything is 0. normalise: divide each item's
    deviation by the indicators' std (population) plus epsilon; items that do not vary have no deviation to divide.
    """
    there = [turn for turn in turns if turn is not None]
    if len(there) < min_holders:
        return [None if turn is None else np.zeros(len(turn.labels)) for turn in turns]
    indicator = np.array([turn.ever(mode) for turn in there], np.float64)
    baseline = indicator.mean(axis=0)
    scale = indicator.std(axis=0) + epsilon if normalise else np.ones_like(baseline)
    return [None if turn is None else _of_steps(turn, mode, baseline, scale) for turn in turns]


def _of_steps(turn: JudgedTurn, mode: Satisfied, baseline: Float64s, scale: Float64s) -> Float64s:
    """[S] weighted mean over what each step could earn; 0 where nothing was left to earn."""
    open_, weights = eligible(turn.labels, turn.dependencies, mode), turn.weights
    deviation = (backfilled(turn.labels, turn.dependencies, mode) - baseline) / scale
    total = open_ @ weights
    earned = (np.where(open_, deviation, 0.0)) @ weights
    return np.divide(earned, total, out=np.zeros(len(total)), where=total > 0)
