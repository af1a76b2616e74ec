"""CM2's levels of advantage on a task that fits into a table: 3 turns of 3 chained items, a judge that errs.

A turn has 5 steps; in chain position p exactly one of 6 actions advances the chain and satisfies item p. The judge
labels every item after every step from the true chain, each label flipped with probability q. The dialogue goes on
while item 0 is judged satisfied. One softmax table over (turn, position); rewards and advantages are the recipe's code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raylign.actors.judge.flips import JudgedTurn, Satisfied, step_advantages

Float64s = NDArray[np.float64]
TURNS, ITEMS, STEPS, ACTIONS, RIGHT = 3, 3, 5, 6, 0
BLUFF = ACTIONS  # a seventh action: never advances, but is labelled satisfied now and then
NO_DEPENDENCIES = np.zeros((ITEMS, ITEMS), bool)
WEIGHTS = np.full(ITEMS, 1 / ITEMS)
MIN_HOLDERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One run. Example: ``Setting(level="trajectory", flip=0.2)``"""

    level: str
    flip: float = 0.0
    bluff: float | None = None  # chance of being labelled satisfied; None: no such action
    group: int = 24
    rate: float = 2.0


@dataclass(slots=True, kw_only=True)
class Rollout:
    """What was done and said: per turn reached, chain positions and actions of its steps, and the judge's labels."""

    positions: list[NDArray[np.int64]] = field(default_factory=list)  # [STEPS] each
    actions: list[NDArray[np.int64]] = field(default_factory=list)
    judged: list[JudgedTurn] = field(default_factory=list)

    @property
    def reward(self) -> float:
        """R of the rollout: turns that were not reached pay nothing."""
        return float(sum(turn.step_scores().sum() for turn in self.judged)) / TURNS


def policy(theta: Float64s) -> Float64s:
    """[turn, position, action] probabilities."""
    grown = np.exp(theta - theta.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)


def roll(chances: Float64s, setting: Setting, rng: np.random.Generator) -> Rollout:
    """One dialogue."""
    rollout = Rollout()
    for turn in range(TURNS):
        position, positions, actions, labels = 0, [], [], []
        for _ in range(STEPS):
            action = int(np.searchsorted(np.cumsum(chances[turn, position]), rng.random()))
            action = min(action, chances.shape[-1] - 1)
            positions.append(position)
            actions.append(action)
            position += int(action == RIGHT and position < ITEMS)
            truth = np.arange(ITEMS) < position
            if action == BLUFF and setting.bluff is not None:
                truth = truth | (rng.random(ITEMS) < setting.bluff)
            labels.append(truth ^ (rng.random(ITEMS) < setting.flip))
        rollout.positions.append(np.array(positions))
        rollout.actions.append(np.array(actions))
        judged = JudgedTurn(labels=np.array(labels, bool), dependencies=NO_DEPENDENCIES, weights=WEIGHTS)
        rollout.judged.append(judged)
        if not judged.ever()[0]:
            break
    return rollout


def advantages(group: Sequence[Rollout], level: str) -> list[list[Float64s]]:
    """Per rollout and reached turn the advantage of every step, [STEPS] each."""
    if level == "trajectory":
        rewards = np.array([rollout.reward for rollout in group])
        return [
            [np.full(STEPS, own - rewards.mean()) for _ in rollout.judged]
            for rollout, own in zip(group, rewards, strict=True)
        ]
    by_rollout: list[list[Float64s]] = [[] for _ in group]
    for turn in range(TURNS):
        there = [rollout.judged[turn] if turn < len(rollout.judged) else None for rollout in group]
        if level == "step":
            parts = step_advantages(there, Satisfied.gated, MIN_HOLDERS)
        else:
            scores = [None if judged is None else float(judged.step_scores().sum()) for judged in there]
            known = [score for score in scores if score is not None]
            few = len(known) < MIN_HOLDERS
            parts = [
                None if score is None else np.full(STEPS, 0.0 if few else score - np.mean(known)) for score in scores
            ]
        for mine, part in zip(by_rollout, parts, strict=True):
            if part is not None:
                mine.append(part)
    return by_rollout


def gradient(chances: Float64s, group: Sequence[Rollout], level: str) -> Float64s:
    """Summed score-gradient over the group's steps, divided by its size; the shape of theta."""
    total = np.zeros_like(chances)
    for one, parts in zip(group, advantages(group, level), strict=True):
        for turn, part in enumerate(parts):
            for position, action, advantage in zip(one.positions[turn], one.actions[turn], part, strict=True):
                total[turn, position] -= advantage * chances[turn, position]
                total[turn, position, action] += advantage
    return total / len(group)


def true_completion(chances: Float64s) -> float:
    """Expected share of all items satisfied under the judge without error, by dynamic programming over the chain."""
    total, alive = 0.0, 1.0
    for turn in range(TURNS):
        state = np.zeros(ITEMS + 1)
        state[0] = 1.0
        for _ in range(STEPS):
            moved = np.array([state[p] * chances[turn, p, RIGHT] for p in range(ITEMS)])
            state[:ITEMS] -= moved
            state[1:] += moved
        total += alive * float(state @ np.arange(ITEMS + 1)) / ITEMS
        alive *= 1.0 - state[0]
    return total / TURNS


def train(setting: Setting, updates: Sequence[int], seed: int) -> dict[int, tuple[float, float]]:
    """(true completion, mean judged reward of a fresh group) after each of these numbers of updates."""
    rng = np.random.default_rng([seed, int(setting.flip * 100), len(setting.level)])
    width = ACTIONS + (setting.bluff is not None)
    theta = np.zeros((TURNS, ITEMS + 1, width))
    scores: dict[int, tuple[float, float]] = {}
    for update in range(1, max(updates) + 1):
        chances = policy(theta)
        group = [roll(chances, setting, rng) for _ in range(setting.group)]
        theta = theta + setting.rate * gradient(chances, group, setting.level)
        if update in updates:
            chances = policy(theta)
            judged = [roll(chances, setting, rng).reward for _ in range(200)]
            scores[update] = (true_completion(chances), float(np.mean(judged)))
    return scores


def cosines(sizes: Sequence[int], seed: int, tries: int = 60, reference: int = 4000) -> Mapping[int, float]:
    """Mean cosine between the trajectory gradient of a group of each size and that of a large sample."""
    rng = np.random.default_rng(seed)
    setting = Setting(level="trajectory", flip=0.2)
    chances = policy(rng.normal(0, 0.3, (TURNS, ITEMS + 1, ACTIONS)))
    large = gradient(chances, [roll(chances, setting, rng) for _ in range(reference)], setting.level).ravel()

    def cosine(size: int) -> float:
        own = gradient(chances, [roll(chances, setting, rng) for _ in range(size)], setting.level).ravel()
        return float(own @ large / (np.linalg.norm(own) * np.linalg.norm(large)))

    return {size: float(np.mean([cosine(size) for _ in range(tries)])) for size in sizes}
