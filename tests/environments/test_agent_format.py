"""What counts as an action, what is dropped, and what a turn costs."""

from __future__ import annotations

import pytest

from raylign.actors.environments.agent_format import AgentFormat, Block, how_to_answer, read_block, words_of
from raylign.actors.environments.turns import AgentLimits, Played, Turns

NUMBERS = {"up": 1, "down": 2, "left": 3, "right": 4}
LETTERS = {name[0]: number for name, number in NUMBERS.items()}


@pytest.mark.parametrize(
    ("text", "actions", "dropped"),
    [
        ("<think>a</think><answer>Up</answer>", (1,), 0),
        ("<think>a</think>\n <answer> up||LEFT </answer> trailing", (1, 3), 0),
        ("<think>two\nlines</think><answer>Down ||\n Right</answer>", (2, 4), 0),
        ("<think></think><answer>Up || Jump</answer>", (1,), 1),
        ("<think>a</think><answer>Jump || Up || Up</answer>", (1,), 1),  # the cap counts before names are dropped
        ("<think>a</think><answer>Up || Left || Nonsense</answer>", (1, 3), 0),  # cut, not dropped
        ("<think>a</think><answer>Up | Left</answer>", (), 1),
        ("<think>a</think><answer>|| Up ||</answer>", (1,), 0),
        ("<think>a</think><answer></answer>", (), 0),
        ("<answer>Up</answer>", (), 0),  # no thinking span
        ("go up</think><answer>Up</answer>", (1,), 0),  # the template wrote the tag that opens it
        ("<answer>Up</answer><think>a</think>", (), 0),
        ("<think>a</think> then <answer>Up</answer>", (), 0),  # something between the spans
        ("<think>a</think><answer>Up", (), 0),
        ("<think>a</think><answer>Up</answer><answer>Down</answer>", (1,), 0),
        ("", (), 0),
    ],
)
def test_answers(text: str, actions: tuple[int, ...], dropped: int) -> None:
    assert read_block(text, NUMBERS, 2, AgentFormat.answer) == Block(actions=actions, dropped=dropped)


@pytest.mark.parametrize(
    ("text", "actions", "dropped"),
    [("UL", (1, 3), 0), (" u \nl", (1, 3), 0), ("ux", (1,), 1), ("xuu", (1,), 1), ("uud", (1, 1), 0), (" ", (), 0)],
)
def test_letters(text: str, actions: tuple[int, ...], dropped: int) -> None:
    assert read_block(text, LETTERS, 2, AgentFormat.letters) == Block(actions=actions, dropped=dropped)


def test_the_instruction_is_in_the_format_that_it_explains() -> None:
    for cap, names in ((1, ["Up"]), (2, ["Up", "Down"]), (5, ["Up", "Down"])):
        told = how_to_answer(("Up", "Down", "Left"), cap)
        assert words_of(told, AgentFormat.answer) == names
        assert read_block(told, NUMBERS, cap, AgentFormat.answer).actions == (1, 2)[: len(names)]


def played(**fields: object) -> Played:
    base = {"reward": 1.0, "actions": 2, "dropped": 0, "effective": True, "success": False, "over": False}
    return Played(**{**base, **fields})  # type: ignore[arg-type]


def test_the_penalty_is_a_named_part_of_the_turns_reward() -> None:
    turns = Turns(AgentLimits())
    reward, flags = turns.end(played(dropped=1, actions=1))
    assert reward == pytest.approx(0.9)
    assert (flags["game_reward"], flags["format_penalty"], flags["valid"]) == (1.0, -0.1, False)
    reward, flags = turns.end(played(actions=0, reward=0.0))
    assert (reward, flags["turn"], flags["valid"]) == (-0.1, 1, False)
    reward, flags = turns.end(played())
    assert (reward, flags["format_penalty"], flags["valid"], flags["actions_total"]) == (1.0, 0.0, True, 3)


def test_an_episode_ends_at_either_limit_or_when_the_environment_does() -> None:
    by_actions = Turns(AgentLimits(actions=3))
    by_actions.end(played())
    assert (by_actions.done, by_actions.cap) == (False, 1)
    by_actions.end(played(actions=1))
    assert by_actions.done
    with pytest.raises(RuntimeError, match="the episode is over"):
        by_actions.cap  # noqa: B018
    by_turns = Turns(AgentLimits(turns=1))
    by_turns.end(played(actions=0))
    assert by_turns.done
    over = Turns(AgentLimits())
    over.end(played(over=True))
    assert over.done


@pytest.mark.parametrize(
    ("key", "value"), [("turns", 0), ("actions", -1), ("actions_per_turn", 0), ("format_penalty", 0.1)]
)
def test_limits_are_checked(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        AgentLimits(**{key: value})  # type: ignore[arg-type]
