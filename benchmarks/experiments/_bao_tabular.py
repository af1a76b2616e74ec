"""BAO's toy world in a table: probes halve the hypotheses, answers ask the user, thinking long costs tokens.

Four actions a turn: probe or answer, each short (1 token) or long (4). A probe halves |H| (rounded up) with chance h, a
long one with h + .1. An answer is right with chance 1/|H|; a wrong one removes one hypothesis. 24 tokens, 15 turns; a
turn that the tokens do not pay for is not executed and ends the episode as a failure. One softmax table over (|H|,
whether the last action asked the user). The shaped rewards are those of `raylign.recipes.bao.turns` for all episodes
at once; part A compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]
TURNS, TOKENS, PROMPTS, GROUP, RATE = 15, 24, 8, 16, 1.0
COST = np.array([1, 4, 1, 4])
ASKS = np.array([False, False, True, True])
LONG = np.array([False, True, False, True])
EVALUATED = 4096  # episodes


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One world and the start of its policy. Example: ``World(hypotheses=27, halving=0.6)``"""

    hypotheses: int
    halving: float
    probing: float = 0.0  # logits added to probes while there is something to find out: stands for imitation
    long: float = 0.0  # logits added to the long variants


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalties:
    """Weights of r'. Example: ``Penalties(answer=0.1)``"""

    answer: float = 0.0
    think: float = 0.0
    effort: float = 0.0
    cap: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Episodes:
    """N episodes of up to 15 turns. `tried` counts the turn that was not paid for; the figures do not."""

    states: Int64s  # [N, TURNS] row of the table
    actions: Int64s  # [N, TURNS]
    tried: NDArray[np.bool_]  # [N, TURNS] an action was drawn
    done: NDArray[np.bool_]  # [N, TURNS] and executed
    solved: NDArray[np.bool_]  # [N]

    @property
    def asks(self) -> NDArray[np.bool_]:
        """[N, TURNS] executed turns that involve the user."""
        return ASKS[self.actions] & self.done

    @property
    def turns(self) -> Int64s:
        """[N] T'."""
        return self.done.sum(axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a policy came to."""

    score: float
    ur: float
    pass_1: float
    effort: float
    turns: float


def start(world: World) -> Float64s:
    """[2 (|H| + 1), 4] the logits of the first policy."""
    table = np.zeros((2 * (world.hypotheses + 1), len(COST)))
    table[4:, ~ASKS] += world.probing  # |H| >= 2
    table[:, LONG] += world.long
    return table


def roll(table: Float64s, world: World, count: int, rng: np.random.Generator) -> Episodes:
    """Episodes of the present policy."""
    chances = np.exp(table - table.max(axis=1, keepdims=True))
    chances = np.cumsum(chances / chances.sum(axis=1, keepdims=True), axis=1)
    states, actions = np.zeros((count, TURNS), np.int64), np.zeros((count, TURNS), np.int64)
    tried, done = np.zeros((count, TURNS), bool), np.zeros((count, TURNS), bool)
    left, last, tokens = np.full(count, world.hypotheses), np.zeros(count, np.int64), np.full(count, TOKENS)
    solved, alive = np.zeros(count, bool), np.ones(count, bool)
    for turn in range(TURNS):
        state = 2 * left + last
        action = np.minimum((rng.random((count, 1)) > chances[state]).sum(axis=1), len(COST) - 1)
        states[:, turn], actions[:, turn], tried[:, turn] = state, action, alive
        alive = alive & (COST[action] <= tokens)
        done[:, turn] = alive
        tokens = tokens - COST[action]
        luck, asks = rng.random(count), ASKS[action]
        halved = ~asks & (luck < world.halving + 0.1 * LONG[action])
        right = alive & asks & (luck < 1 / left)
        solved |= right
        left = np.where(halved & alive, (left + 1) // 2, left)
        left = np.where(alive & asks & ~right, np.maximum(left - 1, 1), left)
        last = asks.astype(np.int64)
        alive = alive & ~right
    return Episodes(states=states, actions=actions, tried=tried, done=done, solved=solved)


def shaped(episodes: Episodes, weights: Penalties) -> Float64s:
    """[N, TURNS] r'."""
    asks, turns = episodes.asks, episodes.turns
    rewards = np.zeros(asks.shape)
    ends = np.maximum(episodes.tried.sum(axis=1) - 1, 0)
    rows = np.arange(len(ends))
    rewards[rows, ends] += episodes.solved
    rewards -= weights.effort * asks
    rewards[:, 1:] -= weights.answer * (asks[:, 1:] & asks[:, :-1])
    failed = ~episodes.solved & (turns < TURNS)
    over = weights.think * (TURNS - turns) / np.maximum(turns, 1)
    rewards[rows, ends] -= np.where(failed, np.minimum(over, weights.cap), 0.0)
    return rewards


def gradient(table: Float64s, episodes: Episodes, rewards: Float64s) -> Float64s:
    """Summed score-gradient over all turns, divided by the number of episodes."""
    held = episodes.tried
    to_go = np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
    grouped, there = to_go.reshape(-1, GROUP, TURNS), held.reshape(-1, GROUP, TURNS)
    count = np.maximum(there.sum(axis=1, keepdims=True), 1)
    mean = (grouped * there).sum(axis=1, keepdims=True) / count
    deviation = np.where(there, grouped - mean, 0.0)
    std = np.sqrt((deviation**2).sum(axis=1, keepdims=True) / np.maximum(count - 1, 1))
    advantage = np.where(std > 1e-9, deviation / (std + 1e-6), 0.0).reshape(held.shape)
    chances = np.exp(table - table.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    slope = np.zeros_like(table)
    states, actions, weight = episodes.states[held], episodes.actions[held], advantage[held]
    np.add.at(slope, (states, actions), weight)
    by_state = np.bincount(states, weight, len(table))
    return (slope - by_state[:, None] * chances) / len(held)


def train(world: World, weights: Penalties, updates: int, seed: int) -> Figures:
    """The figures after so many updates."""
    rng = np.random.default_rng(seed)
    table = start(world)
    for _ in range(updates):
        episodes = roll(table, world, PROMPTS * GROUP, rng)
        table = table + RATE * gradient(table, episodes, shaped(episodes, weights))
    return figures(roll(table, world, EVALUATED, rng))


def figures(episodes: Episodes) -> Figures:
    """Score, involvement as a ratio of sums, success by at most one answer, answers and turns an episode."""
    asks, turns = episodes.asks.sum(axis=1), episodes.turns
    return Figures(
        score=float(episodes.solved.mean()),
        ur=float(asks.sum() / turns.sum()),
        pass_1=float((episodes.solved & (asks <= 1)).mean()),
        effort=float(asks.mean()),
        turns=float(turns.mean()),
    )
