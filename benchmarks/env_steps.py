"""Primitive environment steps per second on one core: Sokoban, FrozenLake, and gymnasium's FrozenLake beside ours.

    python -m benchmarks.env_steps [--steps 200000] [--repeats 7] [--force]

Both FrozenLakes are driven by one loop over the same random actions on the same 4 x 4 map with the same kind of slip:
an action goes in, reward and end come out, an ended game begins again on its map. Neither makes text. gymnasium is
measured as `gymnasium.make` gives it with its checks off, and once more without its wrappers and put back to the start
by hand, the stricter comparison; the claim is against that one. Turns with text (parsing, grid, flags) are reported
beside. Seconds are of the process's CPU: all of it runs on one core.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from benchmarks.harness import environment, interleave, median, refuse_under_load, write
from raylign.actors.environments.games.board import BoardGame
from raylign.actors.environments.games.frozen_lake import FrozenLake
from raylign.actors.environments.games.frozen_lake_board import FrozenLakeBoard, Lake
from raylign.actors.environments.games.sokoban import Sokoban
from raylign.actors.environments.games.sokoban_board import SokobanBoard
from raylign.actors.environments.games.sokoban_levels import Carving, carved_level
from raylign.records import Prompt

MAP = ("P___", "_O_O", "___O", "O__G")  # gymnasium's own 4 x 4 map
LIMIT = 1.0  # times gymnasium's steps per second
TURN = "<think>I try this.</think><answer>Left || Down</answer>"


def our_lake(actions: list[int]) -> float:
    """Steps per second of our board."""
    board = FrozenLakeBoard(Lake.read(MAP), 1 / 3, random.Random(0))
    start = time.process_time()
    for action in actions:
        _, _, over = board.act(action + 1)
        if over:
            board.position = board.lake.start
    return len(actions) / (time.process_time() - start)


def their_lake(actions: list[int], unwrapped: bool) -> float:
    """Steps per second of gymnasium's, with or without the wrappers of `gymnasium.make`."""
    env: Any = gymnasium.make("FrozenLake-v1", disable_env_checker=True, max_episode_steps=10**9)
    env = env.unwrapped if unwrapped else env
    env.reset(seed=0)
    start = time.process_time()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            if unwrapped:
                env.s = 0  # what our side does: back to the start, without drawing or building anything
            else:
                env.reset()
    return len(actions) / (time.process_time() - start)


def our_sokoban(actions: list[int]) -> float:
    """Steps per second of Sokoban's board; begins again after 100 moves, as the game does."""
    level = carved_level(Carving(), 0)
    board = SokobanBoard(level)
    start = time.process_time()
    for action in actions:
        if board.act(action + 1).over:
            board = SokobanBoard(level)
    return len(actions) / (time.process_time() - start)


def turns_per_second(make: Callable[[], BoardGame], turns: int) -> float:
    """Whole turns a second: parsing, two moves, flags and the next observation's text; 5 turns an episode."""
    prompt = Prompt(id="", messages=(), token_ids=np.zeros(0, np.int32), meta={"env_seed": 0})
    done = True
    start = time.process_time()
    for turn in range(turns):
        if done:
            env = make()
            env.reset(prompt, turn)
        done = env.step(TURN).done
    return turns / (time.process_time() - start)


def main() -> None:
    """Measure the sides in turn and print ours against gymnasium's beside the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--force", action="store_true", help="measure on a busy machine")
    args = parser.parse_args()
    refuse_under_load(0.5, args.force)
    draw = random.Random(0)
    actions = [draw.randrange(4) for _ in range(args.steps)]
    ours, bare = interleave(lambda: our_lake(actions), lambda: their_lake(actions, True), args.repeats)
    sokoban, wrapped = interleave(lambda: our_sokoban(actions), lambda: their_lake(actions, False), args.repeats)
    turns = {
        "sokoban": turns_per_second(lambda: Sokoban(Sokoban.Config()), args.steps // 40),
        "frozen_lake": turns_per_second(lambda: FrozenLake(FrozenLake.Config()), args.steps // 40),
    }
    ratio = median(ours) / median(bare)
    print(f"FrozenLake: {median(ours):,.0f} steps/s, gymnasium {median(bare):,.0f}: {ratio:.2f} x (limit {LIMIT} x)")
    steps = {"frozen_lake": ours, "gymnasium_unwrapped": bare, "gymnasium_made": wrapped, "sokoban": sokoban}
    result = {
        "environment": environment(),
        "gymnasium": gymnasium.__version__,
        "steps_per_s": {name: round(median(values)) for name, values in steps.items()},
        "turns_per_s": {name: round(value) for name, value in turns.items()},
        "ratio": ratio,
        "passed": ratio >= LIMIT,
    }
    write("env_steps", result)


if __name__ == "__main__":
    main()
