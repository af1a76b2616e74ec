"""FrozenLake's rules and maps: a slippery walk over ice that must avoid holes."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from raylign.actors.environments.games.board import Move, cells_of

PLAYER, ICE, HOLE, GOAL, DROWNED, ARRIVED = "P_OGX√"
LEFT, DOWN, RIGHT, UP = 1, 2, 3, 4  # neighbours in this circle are perpendicular
OFFSETS = ((0, -1), (1, 0), (0, 1), (-1, 0))
MAPS_TO_TRY = 10_000


@dataclass(frozen=True, slots=True)
class Lake:
    """A square or oblong map.

    Example: ``Lake.read(["P_", "OG"])``
    """

    width: int
    height: int
    holes: frozenset[int]
    start: int
    goal: int

    @classmethod
    def read(cls, rows: Sequence[str]) -> Lake:
        """From a map of P (start), _ (ice), O (hole), G (goal). Raises ValueError when it has no safe path."""
        width = len(rows[0]) if rows else 0
        symbols = "".join(rows)
        if not width or any(len(row) != width for row in rows) or set(symbols) - set("P_OG"):
            raise ValueError(f"a FrozenLake map needs rows of one width made of P _ O G: {list(rows)}")
        if symbols.count(PLAYER) != 1 or symbols.count(GOAL) != 1:
            raise ValueError(f"a FrozenLake map needs one P and one G: {list(rows)}")
        holes = frozenset(r * width + c for r, c in cells_of(rows, HOLE))
        lake = cls(width, len(rows), holes, symbols.index(PLAYER), symbols.index(GOAL))
        if distances_of(lake)[lake.start] is None:
            raise ValueError(f"a FrozenLake map needs a path without holes: {list(rows)}")
        return lake

    @classmethod
    def draw(cls, size: int, frozen: float, seed: int) -> Lake:
        """Cells are ice with probability `frozen`, start and goal uniform and distinct; redrawn until a path is safe.

        Raises ValueError when 10,000 maps have none.
        """
        rng = random.Random(seed)
        for _ in range(MAPS_TO_TRY):
            cells = [rng.random() < frozen for _ in range(size * size)]
            start, goal = rng.sample(range(size * size), 2)
            holes = frozenset(cell for cell, ice in enumerate(cells) if not ice and cell not in (start, goal))
            lake = cls(size, size, holes, start, goal)
            if distances_of(lake)[start] is not None:
                return lake
        raise ValueError(f"no FrozenLake map of {size} x {size} with frozen = {frozen} has a safe path: raise frozen")


@lru_cache(maxsize=4096)
def distances_of(lake: Lake) -> tuple[int | None, ...]:
    """Moves from every cell to the goal without touching a hole; None where there is no such path."""
    distances: list[int | None] = [None] * (lake.width * lake.height)
    distances[lake.goal] = 0
    queue = deque([(lake.goal, 0)])
    while queue:
        cell, far = queue.popleft()
        for there in neighbours_of(lake)[cell]:
            if distances[there] is None and there not in lake.holes:
                distances[there] = far + 1
                queue.append((there, far + 1))
    return tuple(distances)


@lru_cache(maxsize=4096)
def neighbours_of(lake: Lake) -> tuple[tuple[int, ...], ...]:
    """Where each move ends, by cell and action - 1; over the border it stays."""
    neighbours = []
    for row in range(lake.height):
        for column in range(lake.width):
            ends = [(row + down, column + right) for down, right in OFFSETS]
            inside = [(min(max(r, 0), lake.height - 1), min(max(c, 0), lake.width - 1)) for r, c in ends]
            neighbours.append(tuple(r * lake.width + c for r, c in inside))
    return tuple(neighbours)


class FrozenLakeBoard:
    """One game. The intended direction is taken with probability `intended`, each perpendicular with half the rest."""

    __slots__ = ("_ends", "_intended", "_next", "_random", "_rng", "_split", "lake", "position")

    def __init__(self, lake: Lake, intended: float, rng: random.Random) -> None:
        self.lake, self.position = lake, lake.start
        self._intended, self._split = intended, (1 + intended) / 2
        self._rng, self._random = rng, rng.random
        self._next = neighbours_of(lake)
        self._ends = lake.holes | {lake.goal}

    @property
    def success(self) -> bool:
        """Whether the player stands on the goal."""
        return self.position == self.lake.goal

    def act(self, action: int) -> Move:
        """One slippery move: reward 1 on the goal, else 0; over at the goal or in a hole."""
        chance = self._random()
        if chance >= self._intended:
            action += 1 if chance < self._split else -1
        before = self.position
        self.position = cell = self._next[before][(action - 1) & 3]
        if cell in self._ends:
            return WON if cell == self.lake.goal else FELL
        return MOVED if cell != before else STAYED

    def fall_probability(self, action: int) -> float:
        """How likely the next move is to end in a hole when `action` is intended."""
        holes, slip = self.lake.holes, (1 - self._intended) / 2
        ways = ((action - 1, self._intended), (action & 3, slip), ((action - 2) & 3, slip))
        return sum(chance for way, chance in ways if self._next[self.position][way] in holes)

    def reseed(self, seed: int) -> None:
        """Draw further slips from another stream."""
        self._rng.seed(seed)

    def state(self) -> Any:
        """Map, place, slip and the state of the noise; all immutable."""
        return self.lake, self.position, self._intended, self._rng.getstate()

    @classmethod
    def from_state(cls, state: Any) -> FrozenLakeBoard:
        """The game that `state` described."""
        lake, position, intended, noise = state
        rng = random.Random()
        rng.setstate(noise)
        board = cls(lake, intended, rng)
        board.position = position
        return board

    def symbols(self) -> list[str]:
        """One string per row: P player, _ ice, O hole, G goal, X player in a hole, √ player on the goal."""
        lake = self.lake
        cells = [HOLE if cell in lake.holes else ICE for cell in range(lake.width * lake.height)]
        cells[lake.goal] = GOAL
        cells[self.position] = {HOLE: DROWNED, GOAL: ARRIVED, ICE: PLAYER}[cells[self.position]]
        return ["".join(cells[row * lake.width : (row + 1) * lake.width]) for row in range(lake.height)]

    def coordinates(self) -> list[tuple[str, list[tuple[int, int]]]]:
        """Player, goal and holes."""
        lake = self.lake
        holes = [divmod(cell, lake.width) for cell in sorted(lake.holes)]
        return [
            ("player", [divmod(self.position, lake.width)]),
            ("goal", [divmod(lake.goal, lake.width)]),
            ("holes", holes),
        ]


WON, FELL = Move(1.0, True, True), Move(0.0, True, True)
MOVED, STAYED = Move(0.0, True, False), Move(0.0, False, False)
