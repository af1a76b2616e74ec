"""Sokoban levels from seeds: carved rooms with reverse play (gym-sokoban's scheme), and open rooms by optimal length.

Carved: a random walk carves 3 x 3 masks out of solid wall; player and targets are placed at random; boxes begin on the
targets and are pulled away by a depth-first search that looks for the state with the largest
``box_swaps * sum of Manhattan distances``, where a swap is a pull of another box than the last one (the first counts).
What was pulled can be pushed back, so every level is solvable.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from raylign.actors.environments.games.sokoban_board import Level, shortest_solution
from raylign.records import derive_seed

# Offsets (row, column) that one step of the walk carves round itself: bars, elbow, block, elbow the other way.
MASKS = (
    ((0, -1), (0, 0), (0, 1)),
    ((-1, 0), (0, 0), (1, 0)),
    ((0, -1), (0, 0), (1, 0)),
    ((0, -1), (0, 0), (1, -1), (1, 0)),
    ((0, 0), (0, 1), (1, 0)),
)
HEADINGS = ((1, 0), (0, 1), (-1, 0), (0, -1))
SEEDS_TO_TRY = 1000  # re-hashed seeds before a shape counts as impossible
TURN_PROBABILITY = 0.35  # of one step of the carving walk
EXPLORED = 300_000  # states of one reverse play


@dataclass(frozen=True, slots=True, kw_only=True)
class Carving:
    """Numbers of the carved generator (defaults: the digest's)."""

    height: int = 6
    width: int = 6
    boxes: int = 1
    search_depth: int = 300
    tries: int = 4


def carved_level(shape: Carving, seed: int) -> Level:
    """A level by carving and reverse play; a seed that gives none is hashed again.

    Raises ValueError when 1,000 hashes in a row give none: the room is too small for its boxes.
    """
    for attempt in range(SEEDS_TO_TRY):
        rng = random.Random(seed if attempt == 0 else derive_seed(seed, "sokoban", attempt))
        for _ in range(shape.tries):
            level = _attempt(shape, rng)
            if level is not None:
                return level
    raise ValueError(f"no Sokoban level of {shape.height} x {shape.width} with {shape.boxes} boxes: enlarge the room")


def open_level(size: int, inner_walls: int, shortest: tuple[int, int], seed: int) -> Level:
    """A square room with 0 .. `inner_walls` walls inside, one box, and a shortest solution within `shortest` moves.

    The instances of the digest's tabular experiment (6 x 6, at most 3 inner walls, 2 to 8 moves). Raises ValueError
    when 1,000 tries give none.
    """
    rng = random.Random(seed)
    inner = [row * size + column for row in range(1, size - 1) for column in range(1, size - 1)]
    border = frozenset(range(size * size)) - frozenset(inner)
    for _ in range(SEEDS_TO_TRY):
        walls = rng.randint(0, inner_walls)
        cells = rng.sample(inner, walls + 3)
        target, box, player = cells[walls:]
        level = Level(size, border | frozenset(cells[:walls]), frozenset({target}), frozenset({box}), player)
        solution = shortest_solution(level)
        if solution is not None and shortest[0] <= len(solution) <= shortest[1]:
            return level
    raise ValueError(f"no open Sokoban level of {size} x {size} is solved in {shortest[0]} to {shortest[1]} moves")


def displacement(origins: tuple[int, ...], boxes: tuple[int, ...], width: int) -> int:
    """Sum over boxes of the Manhattan distance between the target that one began on and where it stands."""
    total = 0
    for origin, box in zip(origins, boxes, strict=True):
        (r, c), (row, column) = divmod(origin, width), divmod(box, width)
        total += abs(r - row) + abs(c - column)
    return total


def _attempt(shape: Carving, rng: random.Random) -> Level | None:
    floor = _carve(shape, rng)
    if len(floor) <= shape.boxes + 1:
        return None
    placed = rng.sample(sorted(floor), shape.boxes + 1)
    player, targets = placed[0], tuple(placed[1:])
    scrambled = _reverse_play(floor, player, targets, shape)
    if scrambled is None:
        return None
    player, boxes, distance = scrambled
    if rng.random() < (0.8 if distance == 1 else 0.5):
        player = _stroll(floor - frozenset(boxes), player, rng.randint(1, 3), shape.width, rng)
    walls = frozenset(range(shape.height * shape.width)) - floor
    return Level(shape.width, walls, frozenset(targets), frozenset(boxes), player)


def _carve(shape: Carving, rng: random.Random) -> frozenset[int]:
    """Cells of floor after a walk of ``int(1.7 * (height + width))`` steps; the border stays wall."""
    row, column = rng.randint(1, shape.height - 2), rng.randint(1, shape.width - 2)
    heading = rng.choice(HEADINGS)
    floor: set[int] = set()
    for _ in range(int(1.7 * (shape.height + shape.width))):
        if rng.random() < TURN_PROBABILITY:
            heading = rng.choice(HEADINGS)
        row = min(max(row + heading[0], 1), shape.height - 2)
        column = min(max(column + heading[1], 1), shape.width - 2)
        for r, c in rng.choice(MASKS):
            if 0 < row + r < shape.height - 1 and 0 < column + c < shape.width - 1:
                floor.add((row + r) * shape.width + column + c)
    return frozenset(floor)


Position = tuple[int, tuple[int, ...], int, int]  # player, box of each target, last pulled box, swaps


def _reverse_play(
    floor: frozenset[int], player: int, targets: tuple[int, ...], shape: Carving
) -> tuple[int, tuple[int, ...], int] | None:
    """The state with the best score among those that a depth-first search reaches: player, boxes, displacement."""
    best: tuple[int, tuple[int, ...], int] | None = None
    best_score = 0
    visited: set[tuple[int, tuple[int, ...]]] = set()
    stack: list[tuple[Position, int]] = [((player, targets, -1, 0), 0)]
    while stack and len(visited) < EXPLORED:
        position, depth = stack.pop()
        here, boxes, _, swaps = position
        if (here, boxes) in visited:
            continue
        visited.add((here, boxes))
        distance = displacement(targets, boxes, shape.width)
        solved = set(boxes) == set(targets)  # boxes may have changed places
        if swaps * distance > best_score and not solved:
            best, best_score = (here, boxes, distance), swaps * distance
        if depth < shape.search_depth:
            stack += [(after, depth + 1) for after in _backwards(floor, position, shape.width)]
    return best


def _backwards(floor: frozenset[int], position: Position, width: int) -> Iterator[Position]:
    """Every move, with and without pulling the box behind the player along."""
    player, boxes, last, swaps = position
    for delta in (-width, width, -1, 1):
        to = player + delta
        if to not in floor or to in boxes:
            continue
        yield to, boxes, last, swaps
        if player - delta in boxes:
            pulled = boxes.index(player - delta)
            moved = (*boxes[:pulled], player, *boxes[pulled + 1 :])
            yield to, moved, pulled, swaps + (pulled != last)


def _stroll(free: frozenset[int], player: int, moves: int, width: int, rng: random.Random) -> int:
    """Where the player stands after random moves that push nothing (the box can still be reached the same way)."""
    for _ in range(moves):
        steps = [player + delta for delta in (-width, width, -1, 1) if player + delta in free]
        if steps:
            player = rng.choice(steps)
    return player
