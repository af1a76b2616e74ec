"""FrozenLake as TSR plays it (arXiv 2602.11767): reach the goal over slippery ice.

The reward is 0 until the goal, so a search needs a score of its own. The digest's risk-aware one [inferred] reads

    S = reward + 0.1 * (distance_before - distance_after) - 0.5 * fall_probability

from the flags of a turn.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylign.actors.environments.games.board import BoardGame, Move, instance_seed
from raylign.actors.environments.games.frozen_lake_board import FrozenLakeBoard, Lake, distances_of


class FrozenLake(BoardGame):
    """An instance is ``meta["map"]`` (rows of P _ O G joined by newlines) or drawn from ``meta["env_seed"]``.

    Adds the flags ``distance_before`` and ``distance_after`` (moves to the goal without touching a hole; None when
    the player lies in one) and ``fall_probability``: that at least one move of the turn was to end in a hole, over
    the slips, given the cells where its moves began.
    """

    domain = "frozen_lake"
    names = ("Left", "Down", "Right", "Up")
    rules = (
        "You walk over a frozen lake to the goal and must not fall into a hole. The ice is slippery: a move may go "
        "to either side of the direction that you chose. Reaching the goal gives 1."
    )
    legend = "P you, _ ice, O hole, G goal, X you in a hole, √ you on the goal."

    @dataclass
    class Config(BoardGame.Config):
        """The maps (defaults: TSR's), the slip and the limits of an episode."""

        size: int = 4
        frozen: float = 0.9  # probability that a cell is ice
        intended: float = 0.8  # probability of the chosen direction; each perpendicular gets half the rest

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.size < 2:
                raise ValueError(f"size = {self.size}: a lake needs at least 2 x 2 cells")
            if not 0 < self.frozen <= 1 or not 0 <= self.intended <= 1:
                raise ValueError(
                    f"frozen, intended = {self.frozen}, {self.intended}: are probabilities, frozen greater than 0"
                )

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config

    def begin(self, meta: Mapping[str, Any], seed: int) -> FrozenLakeBoard:
        """See `BoardGame.begin`."""
        if "map" in meta:
            lake = Lake.read(str(meta["map"]).strip().splitlines())
        else:
            lake = Lake.draw(self.config.size, self.config.frozen, instance_seed(meta, self.domain))
        return FrozenLakeBoard(lake, self.config.intended, random.Random(seed))

    def board_from(self, state: Any) -> FrozenLakeBoard:
        """See `BoardGame.board_from`."""
        return FrozenLakeBoard.from_state(state)

    def play(self, actions: Sequence[int]) -> tuple[list[Move], dict[str, Any]]:
        """See `BoardGame.play`."""
        board = self.board
        assert isinstance(board, FrozenLakeBoard)
        distances = distances_of(board.lake)
        before, safe, moves = board.position, 1.0, []
        for action in actions:
            safe *= 1 - board.fall_probability(action)
            moves.append(board.act(action))
            if moves[-1].over:
                break
        return moves, {
            "distance_before": distances[before],
            "distance_after": distances[board.position],
            "fall_probability": 1 - safe,
        }
