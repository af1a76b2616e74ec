"""A grid game as an environment: blocks of primitive moves, limits, penalties and what a turn shows.

A game is a `Board` (rules and state, no text); `BoardGame` makes turns of it. The parts of a turn's reward are flags:
``game_reward`` (sum over its moves) and ``format_penalty``; `Observation.reward` is their sum.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from raylign.actors.environments.agent_format import AgentFormat, how_to_answer, read_block
from raylign.actors.environments.turns import AgentLimits, Played, Turns
from raylign.environment import Environment, Observation
from raylign.records import Prompt

ASCII = str.maketrans("√", "*")  # one byte a cell for byte-level tokenizers


class Move(NamedTuple):
    """What one primitive action did."""

    reward: float
    changed: bool  # whether the state differs from before
    over: bool  # the game has ended


class Board(Protocol):
    """One game being played."""

    @property
    def success(self) -> bool:
        """Whether the game is won as it stands."""

    def act(self, action: int) -> Move:
        """Take one primitive action, 1-based as in the action table."""

    def reseed(self, seed: int) -> None:
        """Draw further noise from another stream; nothing where there is none."""

    def state(self) -> Any:
        """Everything, picklable and never changed afterwards."""

    def symbols(self) -> list[str]:
        """One string per row."""

    def coordinates(self) -> list[tuple[str, list[tuple[int, int]]]]:
        """(row, column) of every entity, zero-based, by kind."""


class BoardGame(Environment):
    """Turns of up to `actions_per_turn` moves, at most `turns` turns and `actions` moves an episode.

    Flags of a turn: ``success``, ``valid`` (nothing dropped, not empty), ``effective`` (the state changed), ``actions``
    (moves made), ``actions_total``, ``turn`` (0-based), ``over`` (the game itself ended, not a limit), ``game_reward``,
    ``format_penalty``, and what `play` adds. The first observation's flags name the ``domain``.
    """

    domain: ClassVar[str]
    names: ClassVar[tuple[str, ...]]  # of actions 1, 2, ...
    rules: ClassVar[str]
    legend: ClassVar[str]
    cropped: ClassVar[bool] = False  # whether the outermost cells are always walls, left out of compact grids
    shows_all = True

    @dataclass
    class Config(AgentLimits):
        """The limits and the format of the agent."""

    def __init__(self, config: Config) -> None:
        self.limits = config
        compact = config.format is AgentFormat.letters
        self._numbers = {(name[0] if compact else name).lower(): i for i, name in enumerate(self.names, 1)}
        self._board: Board | None = None
        self._turns = Turns(config)

    @abstractmethod
    def begin(self, meta: Mapping[str, Any], seed: int) -> Board:
        """The instance that a prompt's `meta` names: ``map``, or else ``env_seed``. `seed` draws its noise."""

    @abstractmethod
    def board_from(self, state: Any) -> Board:
        """The board that `Board.state` described."""

    def play(self, actions: Sequence[int]) -> tuple[list[Move], dict[str, Any]]:
        """Make moves until one ends the game; what they did, and further flags of the turn."""
        board, moves = self.board, []
        for action in actions:
            moves.append(board.act(action))
            if moves[-1].over:
                break
        return moves, {}

    @property
    def board(self) -> Board:
        """The game as it stands. Raises RuntimeError before `reset` or `restore`."""
        if self._board is None:
            raise RuntimeError(f"{type(self).__name__} was neither reset nor restored")
        return self._board

    def reset(self, prompt: Prompt, seed: int) -> Observation:
        """See `Environment.reset`. Raises ValueError when the prompt's meta names no instance or a broken map."""
        self._board = self.begin(prompt.meta, seed)
        self._turns = Turns(self.limits)
        text = self._view()
        if self.limits.format is AgentFormat.answer:
            text = f"{self.rules}\n{self.legend}\n{how_to_answer(self.names, self.limits.actions_per_turn)}\n\n{text}"
        return Observation(messages=({"role": "user", "content": text},), flags={"domain": self.domain})

    def step(self, action: str) -> Observation:
        """See `Environment.step`. Raises RuntimeError when the episode is over."""
        cap = self._turns.cap
        block = read_block(action, self._numbers, self.limits.actions_per_turn, self.limits.format)
        moves, facts = self.play(block.actions[:cap])
        played = Played(
            reward=sum(move.reward for move in moves),
            actions=len(moves),
            dropped=block.dropped,
            effective=any(move.changed for move in moves),
            success=self.board.success,
            over=bool(moves) and moves[-1].over,
        )
        reward, flags = self._turns.end(played)
        text = () if self._turns.done else ({"role": "user", "content": self._view(not played.valid)},)
        return Observation(messages=text, reward=reward, done=self._turns.done, flags={**flags, **facts})

    def snapshot(self) -> Any:
        """See `Environment.snapshot`."""
        return self.board.state(), self._turns.state()

    def restore(self, state: Any) -> None:
        """See `Environment.restore`."""
        board, turns = state
        self._board = self.board_from(board)
        self._turns = Turns(self.limits)
        self._turns.restore(turns)

    def reseed(self, seed: int) -> None:
        """See `Environment.reseed`."""
        self.board.reseed(seed)

    def _view(self, misread: bool = False) -> str:
        """The grid, with coordinates and limits in words unless the format is compact."""
        rows = self.board.symbols()
        left = self._turns.left
        if self.limits.format is AgentFormat.letters:
            inner = [row[1:-1] for row in rows[1:-1]] if self.cropped else rows
            return "\n".join((*inner, str(left))).translate(ASCII)
        places = "\n".join(f"{kind}: {', '.join(map(str, cells))}" for kind, cells in self.board.coordinates())
        note = "Not every action of the last answer could be read.\n" if misread else ""
        grid = "\n".join(rows)
        return f"{note}Coordinates (row, column), from 0:\n{places}\nGrid:\n{grid}\nActions left: {left}."


def instance_seed(meta: Mapping[str, Any], domain: str) -> int:
    """The integer that names a generated instance. Raises ValueError without one."""
    seed = meta.get("env_seed")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(
            f"{domain}: the prompt's meta names no instance: give env_seed (an integer) or map, not {seed!r}"
        )
    return seed


def cells_of(rows: Sequence[str], symbols: str) -> list[tuple[int, int]]:
    """(row, column) of every cell that shows one of `symbols`."""
    return [(r, c) for r, row in enumerate(rows) for c, cell in enumerate(row) if cell in symbols]
