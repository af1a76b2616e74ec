"""Sokoban as TSR plays it (arXiv 2602.11767): push every box onto a target.

A scorer of candidates finds the raw reward in ``game_reward`` and, to undo the step cost's preference for short blocks,
the number of primitive moves in ``actions``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from raylign.actors.environments.games.board import BoardGame, Move, instance_seed
from raylign.actors.environments.games.sokoban_board import Level, SokobanBoard
from raylign.actors.environments.games.sokoban_levels import Carving, carved_level, open_level


class Levels(Enum):
    """Where instances come from."""

    carved = "carved"  # random walk and reverse play
    open = "open"  # an open room with few walls, by length of the shortest solution (one box)


class Sokoban(BoardGame):
    """An instance is ``meta["map"]`` (rows of the symbols below) or drawn from ``meta["env_seed"]``.

    Adds the flags ``boxes_on_target`` and ``boxes``.
    """

    domain = "sokoban"
    names = ("Up", "Down", "Left", "Right")
    rules = (
        "You play Sokoban. Push every box onto a target. Walking into a box pushes it when the cell behind it is free; "
        "boxes cannot be pulled. Each move costs 0.1, a box on a target gives 1 (taken back when it leaves), "
        "all boxes on targets give 10."
    )
    legend = "# wall, _ floor, O target, X box, √ box on target, P player, S player on target."
    cropped = True

    @dataclass
    class Config(BoardGame.Config):
        """The generator (defaults: 6 x 6, one box) and the limits of an episode."""

        levels: Levels = Levels.carved
        height: int = 6
        width: int = 6
        boxes: int = 1
        inner_walls: int = 3  # at most, in open rooms
        shortest_min: int = 2  # moves of the shortest solution, in open rooms
        shortest_max: int = 8
        max_steps: int = 100  # of the game itself

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.height < 4 or self.width < 4 or self.boxes < 1:
                raise ValueError(
                    f"height, width, boxes = {self.height}, {self.width}, {self.boxes}: need at least 4, 4 and 1"
                )
            if self.levels is Levels.open and (self.height != self.width or self.boxes != 1):
                raise ValueError("levels = open: rooms are square with one box; set width = height and boxes = 1")
            if not 1 <= self.shortest_min <= self.shortest_max:
                raise ValueError(f"shortest_min = {self.shortest_min}: must be 1 to shortest_max = {self.shortest_max}")
            if not 0 <= self.inner_walls <= (self.height - 2) * (self.width - 2) - 3:
                raise ValueError(f"inner_walls = {self.inner_walls}: leave three cells for player, box and target")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config

    def begin(self, meta: Mapping[str, Any], seed: int) -> SokobanBoard:
        """See `BoardGame.begin`."""
        config = self.config
        if "map" in meta:
            level = Level.read(str(meta["map"]).strip().splitlines())
        elif config.levels is Levels.open:
            lengths = (config.shortest_min, config.shortest_max)
            level = open_level(config.height, config.inner_walls, lengths, instance_seed(meta, self.domain))
        else:
            carving = Carving(height=config.height, width=config.width, boxes=config.boxes)
            level = carved_level(carving, instance_seed(meta, self.domain))
        return SokobanBoard(level, config.max_steps)

    def board_from(self, state: Any) -> SokobanBoard:
        """See `BoardGame.board_from`."""
        return SokobanBoard.from_state(state)

    def play(self, actions: Sequence[int]) -> tuple[list[Move], dict[str, Any]]:
        """See `BoardGame.play`."""
        moves, _ = super().play(actions)
        board = self.board
        assert isinstance(board, SokobanBoard)
        return moves, {"boxes_on_target": len(board.boxes & board.level.targets), "boxes": len(board.boxes)}
