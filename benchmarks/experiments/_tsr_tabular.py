"""Part A of the TSR experiment: a tabular policy on 16 small Sokoban rooms, all episodes in step as numpy arrays.

One action a turn, 10 turns. The policy is a softmax over the four moves for every (box, player) of every room. Each
update draws 8 of the 16 rooms and 16 trajectories of each (searched for, or not), and follows the policy gradient with
GRPO's advantages: ``theta += 2 * sum(A * grad log pi) / trajectories``. Success is exact, at temperature 0.5, without
search.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from raylign.actors.environments.games.sokoban_board import Level, SokobanBoard
from raylign.actors.environments.games.sokoban_levels import open_level

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROOMS, CELLS, MOVES, TURNS = 16, 36, 4, 10
STATES = CELLS * CELLS
FIRST_SEED = 320  # of 24 sets of rooms, the one where plain rollouts learn as the digest's do
ROOMS_PER_UPDATE, GROUP, RATE, TEMPERATURE = 8, 16, 2.0, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """How the trajectories of an update are collected.

    Example: ``Arm(candidates=4, depth=2)`` is a lookahead, ``Arm(raw=32)`` best-of-N
    """

    group: int = GROUP  # trajectories that are learned from
    raw: int = 0  # trajectories that the best are taken from, 0: `group`
    candidates: int = 1
    depth: int = 0  # turns of a continuation
    continuations: int = 4
    by_lot: bool = False  # candidates are sampled and tried, and one is chosen at random


ARMS = {
    "naive": Arm(),
    "best-of-N": Arm(raw=32),
    "beam": Arm(candidates=4),
    "lookahead": Arm(candidates=4, depth=2),
    "random choice": Arm(candidates=4, by_lot=True),
    "4 x trajectories": Arm(group=64),
}


@dataclass(frozen=True, slots=True)
class Rooms:
    """Every move in every room, from the game itself. [rooms, states, moves]"""

    after: Ints
    reward: Floats
    over: NDArray[np.bool_]
    start: Ints  # [rooms]


@lru_cache
def rooms(first_seed: int = FIRST_SEED) -> Rooms:
    """The rooms of the experiment: 6 x 6, at most 3 inner walls, solved in 2 to 8 moves."""
    levels = [open_level(6, 3, (2, 8), first_seed + number) for number in range(ROOMS)]
    tables = [_table(level) for level in levels]
    after, reward, over = (np.stack([table[part] for table in tables]) for part in range(3))
    start = np.array([next(iter(level.boxes)) * CELLS + level.player for level in levels])
    return Rooms(after.astype(np.int64), reward, over.astype(bool), start)


def _table(level: Level) -> tuple[Ints, Floats, Ints]:
    after, over = np.zeros((STATES, MOVES), np.int64), np.zeros((STATES, MOVES), np.int64)
    reward = np.zeros((STATES, MOVES))
    floor = [cell for cell in range(CELLS) if cell not in level.walls]
    for box in floor:
        for player in floor:
            for move in range(MOVES):
                board = SokobanBoard(level)
                board.boxes, board.player = frozenset({box}), player
                observation = board.act(move + 1)
                there = next(iter(board.boxes)) * CELLS + board.player
                state = box * CELLS + player
                after[state, move], over[state, move] = there, board.success
                reward[state, move] = observation.reward
    return after, reward, over


@dataclass(slots=True)
class Trajectories:
    """[episodes, turns] each; `alive` where a turn was taken."""

    room: Ints  # [episodes]
    state: Ints
    move: Ints
    alive: NDArray[np.bool_]
    returns: Floats  # [episodes]


class Collector:
    """Collects trajectories under a policy, and counts the calls to the environment."""

    def __init__(self, arm: Arm, seed: int) -> None:
        self.arm, self.calls = arm, 0
        self.rng = np.random.default_rng(seed)
        self._rooms = rooms()

    def collect(self, theta: Floats, chosen: Ints) -> Trajectories:
        """`group` trajectories for each of the chosen rooms, side by side."""
        raw = self.arm.raw or self.arm.group
        room = np.repeat(chosen, raw)
        state, alive = self._rooms.start[room], np.ones(len(room), bool)
        returns = np.zeros(len(room))
        states, moves, lived = [], [], []
        for _ in range(TURNS):
            move = self._choose(theta, room, state, alive)
            states.append(state)
            moves.append(move)
            lived.append(alive)
            returns += np.where(alive, self._rooms.reward[room, state, move], 0.0)
            over = self._rooms.over[room, state, move]
            state = np.where(alive, self._rooms.after[room, state, move], state)
            alive = alive & ~over
        trajectories = Trajectories(room, np.stack(states, 1), np.stack(moves, 1), np.stack(lived, 1), returns)
        return self._best(trajectories, len(chosen)) if self.arm.raw else trajectories

    def _best(self, trajectories: Trajectories, groups: int) -> Trajectories:
        lots = self.rng.random(len(trajectories.room))
        order = np.lexsort((lots, -trajectories.returns)).tolist()
        place = np.zeros(len(trajectories.room), np.int64)
        counts: dict[int, int] = {}
        for index in order:
            group = index // self.arm.raw
            place[index] = counts.get(group, 0)
            counts[group] = place[index] + 1
        keep = np.flatnonzero(place < self.arm.group)
        return Trajectories(
            trajectories.room[keep],
            trajectories.state[keep],
            trajectories.move[keep],
            trajectories.alive[keep],
            trajectories.returns[keep],
        )

    def _choose(self, theta: Floats, room: Ints, state: Ints, alive: NDArray[np.bool_]) -> Ints:
        arm, count = self.arm, len(room)
        self.calls += arm.candidates * int(alive.sum())  # the one that is chosen is tried and taken in one call
        if arm.candidates == 1:
            return self._sample(theta, room, state)
        rooms_, states = np.repeat(room, arm.candidates), np.repeat(state, arm.candidates)
        moves = self._sample(theta, rooms_, states)
        trying = np.repeat(alive, arm.candidates)
        score = self._rooms.reward[rooms_, states, moves]
        if arm.depth:
            over = ~trying | self._rooms.over[rooms_, states, moves]
            score = score + self._ahead(theta, rooms_, self._rooms.after[rooms_, states, moves], over)
        if arm.by_lot:
            score = np.zeros(len(score))
        table = score.reshape(count, arm.candidates)
        best = np.lexsort((self.rng.random(table.shape), -table), axis=1)[:, 0]
        return moves.reshape(count, arm.candidates)[np.arange(count), best]

    def _ahead(self, theta: Floats, room: Ints, state: Ints, over: NDArray[np.bool_]) -> Floats:
        """The best sum of rewards among the continuations."""
        arm = self.arm
        room, state, over = (np.repeat(values, arm.continuations) for values in (room, state, over))
        total = np.zeros(len(room))
        for _ in range(arm.depth):
            move = self._sample(theta, room, state)
            self.calls += int((~over).sum())
            total += np.where(over, 0.0, self._rooms.reward[room, state, move])
            ended = self._rooms.over[room, state, move]
            state = np.where(over, state, self._rooms.after[room, state, move])
            over = over | ended
        best: Floats = total.reshape(-1, arm.continuations).max(1)
        return best

    def _sample(self, theta: Floats, room: Ints, state: Ints) -> Ints:
        """One move each, by the Gumbel trick."""
        logits = theta[room, state]
        return (logits + self.rng.gumbel(size=logits.shape)).argmax(1)


def gradient_step(theta: Floats, trajectories: Trajectories, groups: int) -> None:
    """One update in place: GRPO's advantages, the score function, no clipping."""
    returns = trajectories.returns.reshape(groups, -1)
    spread = returns.std(1, keepdims=True)
    advantage = np.where(spread > 1e-9, (returns - returns.mean(1, keepdims=True)) / (spread + 1e-6), 0.0).reshape(-1)
    rows, turns = np.nonzero(trajectories.alive)
    room, state, move = trajectories.room[rows], trajectories.state[rows, turns], trajectories.move[rows, turns]
    gradient = -softmax(theta[room, state])
    gradient[np.arange(len(move)), move] += 1
    size = returns.shape[1]
    np.add.at(theta, (room, state), RATE * advantage[rows][:, None] * gradient / size)


def success(theta: Floats) -> float:
    """Exact probability of solving a room within the turns, mean over rooms, at temperature 0.5."""
    table = rooms()
    policy = softmax(theta / TEMPERATURE)
    solved = 0.0
    for room in range(ROOMS):
        mass = np.zeros(STATES)
        mass[table.start[room]] = 1.0
        for _ in range(TURNS):
            flow = mass[:, None] * policy[room]
            solved += flow[table.over[room]].sum() / ROOMS
            flow = np.where(table.over[room], 0.0, flow)
            mass = np.bincount(table.after[room].reshape(-1), flow.reshape(-1), STATES)
    return float(solved)


def softmax(logits: Floats) -> Floats:
    """Along the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    result: Floats = shifted / shifted.sum(-1, keepdims=True)
    return result


def learn(arm: Arm, seed: int, updates: int = 120, every: int = 20) -> tuple[list[float], int]:
    """Success after every `every` updates, and the calls to the environment."""
    theta = np.zeros((ROOMS, STATES, MOVES))
    draw, collector = np.random.default_rng([seed, 1]), Collector(arm, seed)
    curve = []
    for update in range(1, updates + 1):
        chosen = draw.choice(ROOMS, ROOMS_PER_UPDATE, replace=False)
        gradient_step(theta, collector.collect(theta, chosen), ROOMS_PER_UPDATE)
        if update % every == 0:
            curve.append(success(theta))
    return curve, collector.calls
