"""Sokoban: rules and rewards by hand, levels that can be solved, and simulation that tells the truth."""

from __future__ import annotations

import random

import pytest
from environment_cases import check_simulation, prompt, say, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from raylign.actors.environments.agent_format import AgentFormat
from raylign.actors.environments.games.sokoban import Levels, Sokoban
from raylign.actors.environments.games.sokoban_board import Level, SokobanBoard, shortest_solution
from raylign.actors.environments.games.sokoban_levels import Carving, carved_level, displacement, open_level
from raylign.config.build import build
from raylign.contracts import Part
from raylign.environment import Environment

ROW = "######\n#PXO_#\n######"


def make(**fields: object) -> Sokoban:
    return Sokoban(Sokoban.Config(**fields))  # type: ignore[arg-type]


def turns(environment: Environment, draw: random.Random) -> str:
    return say(*draw.choices(("Up", "Down", "Left", "Right", "Jump"), (3, 3, 3, 3, 1), k=draw.randint(1, 3)))


def test_a_solving_push_gives_minus_a_tenth_plus_one_plus_ten() -> None:
    board = SokobanBoard(Level.read(ROW.splitlines()))
    move = board.act(4)
    assert move.reward == pytest.approx(-0.1 + 1 + 10) and move.over and board.success
    assert board.symbols() == ["######", "#_P√_#", "######"]


@pytest.mark.parametrize(
    ("rows", "actions", "rewards", "after"),
    [
        ("#####\n#P__#\n#_XO#\n#####", (1,), (-0.1,), "#####\n#P__#\n#_XO#\n#####"),  # into a wall
        ("######\n#PX_O#\n######", (4,), (-0.1,), "######\n#_PXO#\n######"),
        ("######\n#OPX##\n######", (4,), (-0.1,), "######\n#OPX##\n######"),  # a wall behind the box
        ("#######\n#PXXOO#\n#######", (4,), (-0.1,), "#######\n#PXXOO#\n#######"),  # a box behind the box
        ("#######\n#P√_XO#\n#######", (4,), (-1.1,), "#######\n#_SXXO#\n#######"),  # off its target
        ("#######\n#P√OX_#\n#######", (4,), (-0.1,), "#######\n#_S√X_#\n#######"),  # target to target
        ("######\n#_PXO#\n######", (3, 4), (-0.1, -0.1), "######\n#_PXO#\n######"),
        ("#######\n#PXO_O#\n#__X__#\n#######", (4,), (0.9,), "#######\n#_P√_O#\n#__X__#\n#######"),
    ],
)
def test_moves(rows: str, actions: tuple[int, ...], rewards: tuple[float, ...], after: str) -> None:
    board = SokobanBoard(Level.read(rows.splitlines()))
    assert [board.act(action).reward for action in actions] == pytest.approx(rewards)
    assert "\n".join(board.symbols()) == after


@pytest.mark.parametrize(
    "rows",
    [
        "",
        "####\n#PX#\n####",
        "####\n#P√#\n####",
        "#####\n#PXO_\n#####",
        "#####\n#PXO#\n####",
        "#####\n#aXO#\n#####",
        "#####\n#_XO#\n#####",
    ],
)
def test_broken_maps_are_refused(rows: str) -> None:
    with pytest.raises(ValueError, match="Sokoban map"):
        make().reset(prompt(map=rows), 0)


def test_a_prompt_without_an_instance_is_refused() -> None:
    for meta in ({}, {"env_seed": "3"}, {"env_seed": True}):
        with pytest.raises(ValueError, match="env_seed"):
            make().reset(prompt(**meta), 0)


def test_carved_levels_can_be_solved_and_their_boxes_were_moved() -> None:
    for seed in range(150):
        level = carved_level(Carving(), seed)
        solution = shortest_solution(level)
        assert solution, seed
        assert displacement(tuple(level.targets), tuple(level.boxes), level.width) > 0
        board = SokobanBoard(level)
        total = sum(board.act(action).reward for action in solution)
        assert board.success and total == pytest.approx(11 - 0.1 * len(solution))
        assert carved_level(Carving(), seed) == level
    assert len({carved_level(Carving(), seed) for seed in range(150)}) > 130


def test_two_boxes_are_carved_and_solvable() -> None:
    for seed in range(5):
        level = carved_level(Carving(height=7, width=6, boxes=2), seed)
        assert len(level.boxes) == len(level.targets) == 2 and shortest_solution(level)


def test_open_levels_are_those_of_the_tabular_experiment() -> None:
    lengths = set()
    for seed in range(60):
        level = open_level(6, 3, (2, 8), seed)
        solution = shortest_solution(level)
        assert solution is not None and 2 <= len(solution) <= 8 and 0 <= len(level.walls) - 20 <= 3
        lengths.add(len(solution))
    assert len(lengths) >= 5
    assert text_of(make(levels=Levels.open, format=AgentFormat.letters).reset(prompt(env_seed=1), 0)).count("\n") == 4


def test_a_turn_stops_at_the_solution_and_tells_everything() -> None:
    environment = make()
    first = environment.reset(prompt(map=ROW), 0)
    assert first.messages[0]["role"] == "user" and first.flags["domain"] == "sokoban"
    for part in ("player: (1, 1)", "boxes: (1, 2)", "targets: (1, 3)", ROW, "Actions left: 10."):
        assert part in text_of(first)
    last = environment.step(say("Right", "Left"))
    assert last.done and last.messages == () and last.reward == pytest.approx(10.9)
    expected = {"success": True, "valid": True, "effective": True, "actions": 1, "turn": 0, "over": True}
    assert {name: last.flags[name] for name in expected} == expected
    assert last.flags["boxes_on_target"] == last.flags["boxes"] == 1
    with pytest.raises(RuntimeError, match="over"):
        environment.step(say("Left"))


def test_nonsense_is_answered_and_costs_the_penalty() -> None:
    environment = make()
    environment.reset(prompt(env_seed=1), 0)
    for turn, text in enumerate(("hello", say(), say("Jump"), "<answer>Up</answer>", "")):
        seen = environment.step(text)
        assert seen.reward == -0.1 and not seen.flags["valid"] and not seen.flags["effective"]
        assert seen.done == (turn == 4) and (seen.done or "could be read" in text_of(seen))


def test_the_action_limit_cuts_the_last_block() -> None:
    environment = make(actions=3)
    environment.reset(prompt(map="######\n#P_XO#\n######"), 0)
    assert "Actions left: 1." in text_of(environment.step(say("Left", "Left")))
    last = environment.step(say("Left", "Right"))
    assert last.done and last.flags["actions"] == 1 and last.flags["valid"] and not last.flags["over"]


def test_the_compact_format_is_short() -> None:
    environment = make(format=AgentFormat.letters)
    assert text_of(environment.reset(prompt(map=ROW), 0)) == "PXO_\n10"
    assert environment.step("r").flags["success"]
    size = len(text_of(make(format=AgentFormat.letters).reset(prompt(env_seed=5), 0)).encode())
    assert size <= 22


def test_simulated_outcomes_are_the_real_ones_for_1000_prefixes() -> None:
    assert sum(check_simulation(make, turns, seed % 40, seed) for seed in range(1100)) >= 1000


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**40), st.lists(st.text("udlrx ", max_size=3), max_size=4), st.text("udlrx", max_size=3))
def test_a_restored_game_goes_on_as_the_first_would(seed: int, before: list[str], after: str) -> None:
    environment, twin = make(format=AgentFormat.letters), make(format=AgentFormat.letters)
    environment.reset(prompt(env_seed=seed), 0)
    if any(environment.step(text).done for text in before):
        return
    twin.restore(environment.snapshot())
    environment.reseed(seed + 1)  # without effect: there is no chance in it
    assert environment.step(after) == twin.step(after)
    assert environment.snapshot() == twin.snapshot()


def test_it_is_a_part() -> None:
    node = {"_target_": "raylign.actors.environments.games.sokoban.Sokoban", "format": "letters", "levels": "open"}
    environment = build(Part, node, "environment.fn")
    assert isinstance(environment, Sokoban) and environment.config.levels is Levels.open
    for fields in ({"height": 3}, {"levels": Levels.open, "boxes": 2}, {"shortest_min": 9}, {"inner_walls": 14}):
        with pytest.raises(ValueError, match=next(reversed(fields))):
            make(**fields)
