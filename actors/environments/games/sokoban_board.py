"""Sokoban's rules on immutable positions: a step makes the next position and never touches the last one.

Cells are numbered row by row. The border must be wall, so that a neighbour's number needs no check.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raylign.actors.environments.games.board import Move, cells_of

WALL, FLOOR, TARGET, SOLVED_BOX, BOX, PLAYER, PLAYER_ON_TARGET = "#_O√XPS"  # cell codes 0 .. 5, and the player on a 2
UP, DOWN, LEFT, RIGHT = 1, 2, 3, 4
STEP, ON_TARGET, OFF_TARGET, SOLVED = -0.1, 1.0, -1.0, 10.0  # rewards


@dataclass(frozen=True, slots=True)
class Level:
    """What never moves, and where the game begins.

    Example: ``Level.read(["#####", "#PXO#", "#####"])``
    """

    width: int
    walls: frozenset[int]
    targets: frozenset[int]
    boxes: frozenset[int]
    player: int

    @classmethod
    def read(cls, rows: Sequence[str]) -> Level:
        """From a map in the observation's symbols. Raises ValueError when it is no level, naming what is wrong."""
        width = len(rows[0]) if rows else 0
        if width < 3 or len(rows) < 3 or any(len(row) != width for row in rows):
            raise ValueError(f"a Sokoban map needs rows of one width, at least 3 x 3: {list(rows)}")
        unknown = set("".join(rows)) - set("#_O√XPS")
        if unknown:
            raise ValueError(f"a Sokoban map has no symbol {sorted(unknown)}; there are # _ O √ X P S")
        at = {symbol: {r * width + c for r, c in cells_of(rows, symbol)} for symbol in "#_O√XPS"}
        border = {r * width + c for r in range(len(rows)) for c in range(width)} - {
            r * width + c for r in range(1, len(rows) - 1) for c in range(1, width - 1)
        }
        players = at[PLAYER] | at[PLAYER_ON_TARGET]
        targets = at[TARGET] | at[SOLVED_BOX] | at[PLAYER_ON_TARGET]
        boxes = at[BOX] | at[SOLVED_BOX]
        if not border <= at[WALL]:
            raise ValueError(f"a Sokoban map needs walls all round: {list(rows)}")
        if len(players) != 1 or not boxes or len(boxes) != len(targets) or boxes == targets:
            raise ValueError(
                f"a Sokoban map needs one player and as many targets as boxes, not all solved: {list(rows)}"
            )
        return cls(width, frozenset(at[WALL]), frozenset(targets), frozenset(boxes), players.pop())


class SokobanBoard:
    """One game. Deterministic and irreversible; ends when solved or after `max_steps` moves."""

    __slots__ = ("_deltas", "boxes", "level", "max_steps", "player", "steps")

    def __init__(self, level: Level, max_steps: int = 100) -> None:
        self.level, self.max_steps = level, max_steps
        self.boxes, self.player, self.steps = level.boxes, level.player, 0
        self._deltas = (0, -level.width, level.width, -1, 1)  # by action

    @property
    def success(self) -> bool:
        """Whether every box stands on a target."""
        return self.boxes == self.level.targets

    def act(self, action: int) -> Move:
        """Push when a box is adjacent and the cell behind it is free, else move when free, else nothing.

        Reward -0.1; +1 when more boxes stand on targets than before, -1 when fewer, +10 when all do.
        """
        level, boxes = self.level, self.boxes
        self.steps += 1
        to = self.player + self._deltas[action]
        reward = STEP
        changed = False
        if to in boxes:
            behind = to + self._deltas[action]
            if behind not in level.walls and behind not in boxes:
                self.boxes = boxes - {to} | {behind}
                self.player = to
                changed = True
                reward += ON_TARGET * (behind in level.targets) + OFF_TARGET * (to in level.targets)
                if self.boxes == level.targets:
                    return Move(reward + SOLVED, True, True)
        elif to not in level.walls:
            self.player = to
            changed = True
        return Move(reward, changed, self.steps >= self.max_steps)

    def reseed(self, seed: int) -> None:
        """Nothing: the game has no chance in it."""

    def state(self) -> Any:
        """Level, position, moves made and their limit; all immutable."""
        return self.level, self.player, self.boxes, self.steps, self.max_steps

    @classmethod
    def from_state(cls, state: Any) -> SokobanBoard:
        """The game that `state` described."""
        level, player, boxes, steps, max_steps = state
        board = cls(level, max_steps)
        board.player, board.boxes, board.steps = player, boxes, steps
        return board

    def symbols(self) -> list[str]:
        """One string per row, in the digest's symbols."""
        level = self.level
        height = max(level.walls) // level.width + 1
        cells = [self._symbol(cell) for cell in range(height * level.width)]
        return ["".join(cells[row * level.width : (row + 1) * level.width]) for row in range(height)]

    def coordinates(self) -> list[tuple[str, list[tuple[int, int]]]]:
        """Player, boxes, targets and walls; a box or player on a target is listed under both."""

        def places(cells: frozenset[int]) -> list[tuple[int, int]]:
            return [divmod(cell, self.level.width) for cell in sorted(cells)]

        return [
            ("player", places(frozenset({self.player}))),
            ("boxes", places(self.boxes)),
            ("targets", places(self.level.targets)),
            ("walls", places(self.level.walls)),
        ]

    def _symbol(self, cell: int) -> str:
        if cell in self.level.walls:
            return WALL
        target = cell in self.level.targets
        if cell == self.player:
            return PLAYER_ON_TARGET if target else PLAYER
        if cell in self.boxes:
            return SOLVED_BOX if target else BOX
        return TARGET if target else FLOOR


def shortest_solution(level: Level) -> list[int] | None:
    """The actions of a shortest solution, by breadth-first search; None when there is none."""
    start = (level.player, level.boxes)
    before: dict[tuple[int, frozenset[int]], tuple[tuple[int, frozenset[int]], int] | None] = {start: None}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        if here[1] == level.targets:
            path: list[int] = []
            while (link := before[here]) is not None:
                here, action = link
                path.append(action)
            return path[::-1]
        for action in (UP, DOWN, LEFT, RIGHT):
            board = SokobanBoard(level)
            board.player, board.boxes = here
            board.act(action)
            there = (board.player, board.boxes)
            if there not in before:
                before[there] = (here, action)
                queue.append(there)
    return None
