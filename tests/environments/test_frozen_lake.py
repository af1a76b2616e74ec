"""FrozenLake: maps with a safe path, slips as often as promised, and what a search may know about a turn."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from environment_cases import check_simulation, prompt, say, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from raylign.actors.environments.agent_format import AgentFormat
from raylign.actors.environments.games.frozen_lake import FrozenLake
from raylign.actors.environments.games.frozen_lake_board import FrozenLakeBoard, Lake, distances_of
from raylign.config.build import build
from raylign.contracts import Part
from raylign.environment import Environment

OPEN = "___\n_P_\n__G"
NAMES = ("Left", "Down", "Right", "Up")


def make(**fields: object) -> FrozenLake:
    return FrozenLake(FrozenLake.Config(**fields))  # type: ignore[arg-type]


def turns(environment: Environment, draw: random.Random) -> str:
    return say(*draw.choices((*NAMES, "Jump"), (3, 3, 3, 3, 1), k=draw.randint(1, 3)))


@pytest.mark.parametrize("action", [1, 2, 3, 4])
def test_slips_are_as_frequent_as_promised(action: int) -> None:
    lake = Lake.read(OPEN.splitlines())
    board = FrozenLakeBoard(lake, 0.8, random.Random(action))
    n, seen = 20_000, Counter[int]()
    for _ in range(n):
        board.position = 4
        board.act(action)
        seen[board.position] += 1
    around = (3, 7, 5, 1)  # left, down, right, up of the centre
    for turn, chance in ((0, 0.8), (1, 0.1), (3, 0.1)):
        share = seen[around[(action - 1 + turn) % 4]] / n
        assert abs(share - chance) < 3 * math.sqrt(chance * (1 - chance) / n), (turn, share)
    assert seen[around[(action + 1) % 4]] == 0 and seen[4] == 0


def test_every_map_has_a_safe_path_and_the_promised_ice() -> None:
    holes = 0
    for seed in range(500):
        lake = Lake.draw(4, 0.9, seed)
        assert lake.start != lake.goal and not {lake.start, lake.goal} & lake.holes
        assert (distances_of(lake)[lake.start] or 0) >= 1
        holes += len(lake.holes)
    assert 0.5 < holes / 500 < 1.6  # 14 cells of which a tenth melts, less what blocks the path
    rough = [Lake.draw(4, 0.5, seed) for seed in range(100)]
    assert all(distances_of(lake)[lake.start] for lake in rough)


def test_distances_go_round_holes() -> None:
    lake = Lake.read(["P_", "O_", "G_"])
    assert distances_of(lake) == (4, 3, None, 2, 0, 1)


@pytest.mark.parametrize("rows", ["", "PG\n_", "P_\n__", "PG\nPG", "P_x\n__G", "PO\nOG"])
def test_broken_maps_are_refused(rows: str) -> None:
    with pytest.raises(ValueError, match="FrozenLake map"):
        make().reset(prompt(map=rows), 0)


def test_the_goal_gives_one_and_a_hole_nothing() -> None:
    sure = make(intended=1.0)
    first = sure.reset(prompt(map="PG\n_O"), 0)
    for part in ("player: (0, 0)", "goal: (0, 1)", "holes: (1, 1)", "PG\n_O", "Actions left: 10."):
        assert part in text_of(first)
    won = sure.step(say("Right"))
    assert (won.reward, won.done, won.flags["success"], won.flags["over"]) == (1.0, True, True, True)
    sure.reset(prompt(map="PG\n_O"), 0)
    sure.step(say("Left"))
    fell = sure.step(say("Down", "Right"))
    assert (fell.reward, fell.done, fell.flags["success"], fell.flags["over"]) == (0.0, True, False, True)
    assert (fell.flags["distance_before"], fell.flags["distance_after"]) == (1, None)


def test_the_border_holds_and_counts_as_no_effect() -> None:
    environment = make(intended=1.0)
    environment.reset(prompt(map=OPEN), 0)
    assert environment.step(say("Up")).flags["effective"]
    assert not environment.step(say("Up")).flags["effective"]


def test_what_a_frozen_model_needs() -> None:
    environment = make()
    environment.reset(prompt(map="___\nOPG\n___"), 0)
    board = environment.board
    assert isinstance(board, FrozenLakeBoard)
    assert [board.fall_probability(action) for action in (1, 2, 3, 4)] == pytest.approx([0.8, 0.1, 0.0, 0.1])
    flags = environment.step(say("Right")).flags
    assert flags["distance_before"] == 1 and flags["fall_probability"] == pytest.approx(0.0)
    flat = make(intended=1.0)
    flat.reset(prompt(map="_O_\nP_G"), 0)
    flags = flat.step(say("Right", "Left")).flags
    assert (flags["distance_before"], flags["distance_after"], flags["fall_probability"]) == (2, 2, 0.0)
    both = make(intended=0.8)
    both.reset(prompt(map="OOO\nOPO\n_G_"), 0)  # up falls for certain, down with 0.2
    assert both.board.fall_probability(4) == pytest.approx(1.0)  # type: ignore[attr-defined]
    assert both.step(say("Down")).flags["fall_probability"] == pytest.approx(0.2)


def test_the_instance_is_the_prompts_and_the_noise_the_seeds() -> None:
    one, two = make(), make()
    assert one.reset(prompt(env_seed=8), 1) == two.reset(prompt(env_seed=8), 2)
    assert one.snapshot() != two.snapshot()
    two.reseed(5)
    one.reseed(5)
    assert one.snapshot() == two.snapshot()
    ends = set()
    for noise in range(40):
        one.reset(prompt(map=OPEN), noise)
        one.step(say("Left"))
        ends.add(one.board.position)  # type: ignore[attr-defined]
    assert ends == {3, 1, 7}


def test_fresh_noise_on_a_snapshot_is_fair() -> None:
    """Simulations with noise of their own have the true mean: 0.8 of reaching the goal in one move."""
    environment, twin = make(), make()
    environment.reset(prompt(map="___\n_PG\n___"), 3)
    state, won, n = environment.snapshot(), 0, 2000
    for seed in range(n):
        twin.restore(state)
        twin.reseed(seed)
        won += bool(twin.step(say("Right")).flags["success"])
    assert abs(won / n - 0.8) < 3 * math.sqrt(0.16 / n)


def test_nonsense_is_answered() -> None:
    environment = make()
    environment.reset(prompt(env_seed=1), 0)
    assert [environment.step(text).reward for text in ("", "Left", say("Jump"), say())] == [-0.1] * 4


def test_simulated_outcomes_are_the_real_ones_for_1000_prefixes() -> None:
    compared = [check_simulation(make, turns, seed % 60, seed) for seed in range(2500)]
    assert sum(compared) >= 1000


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 2**62), st.lists(st.text("udlrx", max_size=3), max_size=4))
def test_a_restored_game_goes_on_as_the_first_would(instance: int, noise: int, texts: list[str]) -> None:
    environment, twin = make(format=AgentFormat.letters), make(format=AgentFormat.letters)
    environment.reset(prompt(env_seed=instance), noise)
    for text in texts:
        twin.restore(environment.snapshot())
        seen = environment.step(text)
        assert twin.step(text) == seen and twin.snapshot() == environment.snapshot()
        if seen.done:
            return


def test_it_is_a_part() -> None:
    node = {"_target_": "raylign.actors.environments.games.frozen_lake.FrozenLake", "format": "letters"}
    environment = build(Part, node, "environment.fn")
    assert text_of(environment.reset(prompt(env_seed=3), 0)).count("\n") == 4
    for fields in ({"size": 1}, {"frozen": 0.0}, {"intended": 1.5}):
        with pytest.raises(ValueError, match=next(iter(fields))):
            make(**fields)
