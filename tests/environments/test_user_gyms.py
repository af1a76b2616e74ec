"""User gyms: what a turn may be, what it costs whom, real and broken files, and users that are gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.actors.environments.host import EnvironmentHost
from raylign.actors.environments.rows import EnvironmentRows
from raylign.actors.environments.user_gyms.arithmetic import NoValue, evaluate
from raylign.actors.environments.user_gyms.function import FunctionGym, written
from raylign.actors.environments.user_gyms.protocol import Act, Choice, Form, Unread, read_act, write_act
from raylign.actors.environments.user_gyms.small import SmallFunctions
from raylign.actors.environments.user_gyms.telepathy import TelepathyGym
from raylign.actors.environments.user_gyms.turtle import TurtleGym
from raylign.actors.reward.episode import EpisodeReturn
from raylign.config.build import build
from raylign.environment import Environment, Observation
from raylign.errors import DataError
from raylign.records import Prompt
from raylign.testing import call, prompt, trajectory

GYMS = "raylign.actors.environments.user_gyms"
REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "userrl"
FUNCTION = {"id": "func-1", "rule": "a / (b - c) + d ** 2", "test_case": [8, 3, 1, 2], "expected_result": 8.0}
STORY = {
    "new_title": "The soup",
    "new_surface": "He tasted the soup and wept.",
    "new_bottom": "He had been shipwrecked and was told that human flesh was albatross.",
    "evaluation": [
        {"statement": "The man survived a shipwreck.", "score": 0.3},
        {"statement": "He unknowingly ate human flesh.", "score": 0.6},
        {"statement": "Albatross soup revealed the truth.", "score": 0.1},
    ],
}
ONE_CALL = '<tool_call>{"name": "interact_with_env", "arguments": {"choice": "action", "content": "1"}}</tool_call>'
ENTITY = {
    "id": "e1",
    "title": "Lion",
    "description": "I am thinking of an animal.",
    "target_entity": "Lion - a wild cat",
}


def asked(number: int = 0) -> Prompt:
    return prompt(meta={"env_seed": number})


def file(folder: Path, *rows: Any) -> str:
    path = folder / "rows.json"
    path.write_text(json.dumps(list(rows)))
    return str(path)


def rule_user(**settings: Any) -> dict[str, Any]:
    model = {"_target_": "raylign.actors.judge.scripted.Scripted", "function": f"{GYMS}.scripted.rule_user"}
    return {"model": {**model, "settings": settings}, "tries": 1}


async def play(gym: Environment, *acts: tuple[str, str], number: int = 0) -> list[Observation]:
    opened = gym.reset(asked(number), 0)
    assert isinstance(opened, Observation)
    seen: list[Any] = []
    for choice, content in acts:
        form = Form.marks if isinstance(gym, SmallFunctions) else Form.call
        said = content if choice == "raw" else write_act(Choice[choice], content, form, "so ")
        seen.append(await gym.step(said))  # type: ignore[misc]
    return seen


# ------------------------------------------------------------------------------------------------------ protocol


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hello", "exactly one call"),
        (ONE_CALL * 2, "exactly one call of interact_with_env in a turn, not 2"),
        ('<tool_call>{"name": "interact_with_env", </tool_call>', "could not be read"),
        ('<tool_call>{"name": "other", "arguments": {}}</tool_call>', "there is no tool other"),
        (
            '<tool_call>{"name": "interact_with_env", "arguments": {"choice": "beg"}}</tool_call>',
            "choice must be one of",
        ),
        ('<tool_call>{"name": "interact_with_env", "arguments": {"choice": "answer"}}</tool_call>', "content must be"),
        (f"<think>{ONE_CALL}", "exactly one call"),
    ],
)
def test_turns_that_are_no_act_say_why(text: str, why: str) -> None:
    read = read_act(text, Form.call)
    assert isinstance(read, Unread) and why in read.why


def test_acts_are_read_as_they_are_written() -> None:
    for form in Form:
        for choice in Choice:
            act = read_act(write_act(choice, "3 4", form, "ab"), form)
            assert act == Act(choice=choice, content="3 4", thought=2)
    call_of_numbers = '{"name": "interact_with_env", "arguments": {"choice": "action", "content": [1, 2, 3, 4]}}'
    assert read_act(call_of_numbers, Form.call) == Act(choice=Choice.action, content="[1, 2, 3, 4]", thought=0)
    assert isinstance(read_act("ab", Form.marks), Unread)


# ------------------------------------------------------------------------------------------------------ function


@pytest.mark.parametrize(
    "rule", ["__import__('os')", "a if b else c", "a.real", "f(a)", "a @ b", "'x'", "a +", "x + a", "1j"]
)
def test_what_is_no_arithmetic_is_refused(rule: str) -> None:
    with pytest.raises(ValueError):
        evaluate(rule, {"a": 1, "b": 2, "c": 3})


def test_arithmetic_is_that_of_python_and_always_ends() -> None:
    assert evaluate("-a ** 2 + b * (c - 1) / 4", {"a": 3, "b": 2, "c": 3}) == -8.0
    for rule in ("a / (b - 2)", "a ** 9999 ** 99", "(0 - a) ** 0.5", "a * 1e308 * 10"):
        with pytest.raises(NoValue):
            evaluate(rule, {"a": 3, "b": 2})
    assert [written(value) for value in (7.0, 1 / 3, -2.50001, 1e15)] == ["7", "0.3333", "-2.5", "1000000000000000"]


async def test_a_rule_is_tried_shown_and_answered(tmp_path: Path) -> None:
    gym = FunctionGym(FunctionGym.Config(path=file(tmp_path, FUNCTION), turns=9))
    acts = [
        ("action", "1 2 0 3"),
        ("action", "8, 3, 1, 2"),  # the test input itself
        ("action", "1 2 3"),
        ("action", "1 2 2 3"),  # a division by zero
        ("search", "test"),
        ("answer", "nine"),
        ("answer", "9"),
        ("raw", "what?"),
        ("answer", "8.0000005"),
    ]
    seen = await play(gym, *acts)
    said = [observation.messages[0]["content"] if observation.messages else "" for observation in seen]
    assert said[0] == "9.5\nReward: 0" and said[4] == "Test input: 8 3 1 2\nReward: 0" and said[6].startswith("Wrong.")
    valid = [observation.flags["valid"] for observation in seen]
    assert valid == [True, False, False, False, True, False, True, False, True]
    user = [observation.flags["user"] for observation in seen]
    assert user == [False] * 6 + [True, False, True] and seen[-1].flags["user_turns"] == 2
    assert [observation.reward for observation in seen] == [0.0] * 8 + [1.0]
    assert seen[-1].done and seen[-1].flags["success"] and not seen[-1].messages
    assert [observation.flags["turn"] for observation in seen] == list(range(9))
    with pytest.raises(RuntimeError, match="over"):
        await gym.step("more")


async def test_the_budget_ends_an_episode_and_the_reward_may_be_hidden(tmp_path: Path) -> None:
    gym = FunctionGym(FunctionGym.Config(path=file(tmp_path, FUNCTION), turns=2, show_reward=False))
    first, second = await play(gym, ("action", "1 2 0 3"), ("answer", "1"))
    assert first.messages[0] == {"role": "tool", "content": "9.5"}
    assert second.done and not second.flags["success"] and second.flags["budget"] == 2


async def test_small_functions_speak_in_letters() -> None:
    gym = SmallFunctions(SmallFunctions.Config())
    assert len(gym.rows()) == 256
    number = next(i for i, row in enumerate(gym.rows()) if row.rule == "2 * a + 3 * b" and row.test == (3.0, 4.0))
    opened = gym.reset(asked(number), 0)
    assert opened.messages[0]["content"] == "34"
    seen = await play(
        gym, ("action", "10"), ("action", "34"), ("action", "5"), ("answer", "1"), ("answer", "3"), number=number
    )
    assert [observation.messages[0]["content"] for observation in seen[:4]] == ["2", "-", "-", "x"]
    assert seen[4].reward == 1.0 and seen[0].flags["thought"] == 3
    assert [observation.flags["valid"] for observation in seen] == [True, False, False, True, True]
    with pytest.raises(ValueError, match="set path= form=marks"):
        SmallFunctions.Config(path="rows.json")


# ------------------------------------------------------------------------------------------------------ judged


async def test_a_story_is_asked_about_and_marked_by_its_criteria(tmp_path: Path) -> None:
    gym = TurtleGym(TurtleGym.Config(path=file(tmp_path, STORY), judge=rule_user()))
    seen = await play(
        gym,
        ("action", "Was there a shipwreck? shipwrecked?"),
        ("answer", "The man survived a shipwreck."),
        ("answer", "The man survived a shipwreck."),
        ("answer", "The man survived a shipwreck and unknowingly ate human flesh."),
    )
    assert seen[0].messages[0]["content"] == "Yes\nReward: 0" and not seen[0].flags["user"]
    assert seen[1].reward == pytest.approx(0.3) and "survived a shipwreck" in seen[1].messages[0]["content"]
    assert seen[2].reward == 0.0 and seen[2].flags["best"] == pytest.approx(0.3)
    assert seen[3].reward == pytest.approx(0.6) and seen[3].done and seen[3].flags["success"]
    assert seen[3].flags["judge/asked"] == 4 and seen[3].flags["judge/hits"] == 1, "equal words are asked once"
    assert sum(observation.reward or 0 for observation in seen) == pytest.approx(0.9)


async def test_an_entity_is_guessed_and_long_messages_are_not_read(tmp_path: Path) -> None:
    gym = TelepathyGym(TelepathyGym.Config(path=file(tmp_path, ENTITY), judge=rule_user(), longest=40))
    seen = await play(gym, ("action", "wild?"), ("action", "x" * 41), ("answer", "A tiger"), ("answer", "a lion"))
    assert seen[0].messages[0]["content"].startswith("Yes") and not seen[1].flags["valid"]
    assert seen[1].flags["judge/asked"] == 1 and "Lion" not in gym.reset(asked(), 0).messages[0]["content"]
    assert seen[2].reward == 0 and seen[3].reward == 1 and seen[3].done
    assert gym.config.turns == 12


async def test_a_user_who_is_gone_loses_the_episode_and_its_reward(tmp_path: Path) -> None:
    config = TelepathyGym.Config(path=file(tmp_path, ENTITY), judge=rule_user(absent=1.0))
    (seen,) = await play(TelepathyGym(config), ("action", "wild?"))
    assert seen.done and seen.reward is None and "JudgeUnavailable" in seen.flags["lost"]
    assert not seen.flags["valid"] and seen.flags["judge/unavailable"] == 1
    reward = EpisodeReturn(EpisodeReturn.Config())
    earned = call("b", reward=0.5, flags={"lost": ""})
    with pytest.raises(ValueError, match="the episode is lost: JudgeUnavailable"):
        reward.score(asked(), [trajectory(earned, call("a", reward=None, flags=dict(seen.flags)))])
    config.failure_is_zero = True
    (seen,) = await play(TelepathyGym(config), ("action", "wild?"))
    assert not seen.done and seen.reward == 0.0 and not seen.flags["lost"]


async def test_an_episode_goes_on_from_its_snapshot_in_another_process(tmp_path: Path) -> None:
    node = {"_target_": f"{GYMS}.turtle.TurtleGym", "path": file(tmp_path, STORY), "judge": rule_user()}
    mixed = {"_target_": f"{GYMS}.mixture.GymMixture", "gyms": {"t": node}}
    for world in (node, mixed):
        host = EnvironmentHost(world)
        number, _ = await host.open(asked(), 0)
        await host.step(number, write_act(Choice.answer, "The man survived a shipwreck.", Form.call))
        state = await host.snapshot(number)
        other = await host.revive(asked(), 0, state)
        story = write_act(Choice.answer, "He unknowingly ate human flesh.", Form.call)
        one, two = await host.step(number, story), await host.step(other, story)
        assert one.reward == two.reward == pytest.approx(0.3) and two.flags["turn"] == 1
        await host.close([number, other])


# ------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize(
    ("gym", "change", "said"),
    [
        (FunctionGym, {"rule": "a + bb"}, r"row 1 \(func-1\): the rule 'a \+ bb' cannot be evaluated: knows no bb"),
        (FunctionGym, {"rule": "a / 0"}, "cannot be evaluated"),
        (FunctionGym, {"expected_result": 9}, r"gives 8 at the test input, not expected_result = 9"),
        (FunctionGym, {"test_case": [1, 2, 3]}, "is no list of four numbers"),
        (FunctionGym, {"test_case": [1, 2, 3, None]}, "test_case = 'None' is no number"),
        (FunctionGym, {"expected_result": float("nan")}, "is no number"),
        (TurtleGym, {"evaluation": []}, "row 1: evaluation is no list"),
        (TurtleGym, {"evaluation": [{"statement": "a", "score": 0.5}]}, "row 1: the scores of its criteria sum to 0.5"),
        (TurtleGym, {"evaluation": [{"statement": "", "score": 1}]}, "row 1, criterion 0: statement"),
        (TurtleGym, {"new_bottom": 3}, "new_bottom = '3' is no text"),
        (TelepathyGym, {"target_entity": " "}, r"row 1 \(e1\): target_entity"),
    ],
)
def test_bad_rows_are_refused_with_file_and_row(gym: Any, change: dict[str, Any], said: str, tmp_path: Path) -> None:
    good = {FunctionGym: FUNCTION, TurtleGym: STORY, TelepathyGym: ENTITY}[gym]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([good, {**good, **change}]))
    settings = {} if gym is FunctionGym else {"judge": rule_user()}
    with pytest.raises(DataError, match=rf"rows.json: .*{said}"):
        gym(gym.Config(path=str(path), **settings)).reset(asked(), 0)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    for content, said in (("[", "is no JSON"), ("[]", "holds no instance"), ("[3]", "row 0: is no object")):
        path = tmp_path / f"{len(content)}.json"
        path.write_text(content)
        with pytest.raises(DataError, match=said):
            FunctionGym(FunctionGym.Config(path=str(path))).rows()
    with pytest.raises(DataError, match=r"nowhere.json: No such file.*; fix"):
        FunctionGym(FunctionGym.Config(path="nowhere.json")).rows()
    with pytest.raises(DataError, match="path is empty"):
        FunctionGym(FunctionGym.Config()).rows()
    gym = FunctionGym(FunctionGym.Config(path=file(tmp_path, FUNCTION)))
    with pytest.raises(DataError, match=r"env_seed = 1 is no instance of 1; fix: set .*size=1"):
        gym.reset(asked(1), 0)


def test_settings_that_make_no_gym_are_refused() -> None:
    with pytest.raises(ValueError, match="turns is 0"):
        FunctionGym.Config(turns=0)
    with pytest.raises(ValueError, match="judge is empty"):
        TurtleGym.Config(path="x")


@pytest.mark.skipif(not REAL.exists(), reason="../shared/data/userrl is absent")
async def test_the_real_files_are_read_whole_and_are_questions_of_their_own() -> None:
    gyms = {
        "function": {"_target_": f"{GYMS}.function.FunctionGym", "path": str(REAL / "functions.json")},
        "turtle": {"_target_": f"{GYMS}.turtle.TurtleGym", "path": str(REAL / "stories.json"), "judge": rule_user()},
        "telepathy": {
            "_target_": f"{GYMS}.telepathy.TelepathyGym",
            "path": str(REAL / "entities.json"),
            "judge": rule_user(),
        },
    }
    node = {"_target_": f"{GYMS}.mixture.GymMixture", "gyms": gyms}
    mixture: Any = build(Environment, node, "environment.fn")
    assert [len(gym.rows()) for gym in mixture._gyms.values()] == [538, 471, 401]
    rows = list(EnvironmentRows(EnvironmentRows.Config(environment=node, first_seed=500)).rows(60, 0))
    assert {row.domain for row in rows} == {"function", "turtle"}
    assert len({row.meta["instance"] for row in rows}) == 60, "a held-out instance is no training instance"
    functions = build(FunctionGym, gyms["function"], "gym")
    for number in range(0, 538, 50):
        row = functions.rows()[number]
        (seen,) = await play(functions, ("answer", repr(row.expected)), number=number)
        assert seen.reward == 1.0
    with pytest.raises(DataError, match="is no instance of 1410"):
        mixture.reset(asked(1410), 0)
    assert np.isfinite([sum(row.weights) for row in build(TurtleGym, gyms["turtle"], "gym").rows()]).all()
