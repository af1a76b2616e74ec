"""Reward functions as people have them: signatures, what they return, where they may come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from raylign.actors.reward.outcome import checked
from raylign.actors.reward.response import trajectory_of
from raylign.actors.reward.wire import pack_outcome, unpack_outcome
from raylign.config.build import build
from raylign.config.compose import compose_with_problems
from raylign.contracts import Part
from raylign.errors import ConfigError, RewardError
from raylign.loop.reward_metrics import refuse_missing, reward_metrics
from raylign.objectives.shaping import WeightedSum
from raylign.records import Absent, Group, Missing, Prompt, Reward, Value


def made(name: str, **settings: Any) -> Any:
    node = {"_target_": "raylign.actors.reward.python.PythonFunction", "path": f"user_rewards.{name}", **settings}
    return build(Part, node, "rewards.x.fn")


def prompt(answer: Any = "4", **meta: Any) -> Prompt:
    chat = ({"role": "user", "content": "2+2?"},)
    return Prompt(id="p", messages=chat, token_ids=np.zeros(1, np.int32), answer=answer, domain="sums", meta=meta)


def values(function: Any, *texts: str, task: Prompt | None = None) -> list[Any]:
    task = task or prompt()
    trajectories = [trajectory_of(task, text) for text in texts]
    return list(checked(function.score(task, trajectories), trajectories))


def scores(function: Any, *texts: str, task: Prompt | None = None) -> list[float | None]:
    return [None if value is None else value.score for value in values(function, *texts, task=task)]


def test_verl() -> None:
    (value,) = values(made("verl"), "4", task=prompt(extra_info={"split": "train"}))
    assert value == Value(score=1.0, details={"acc": True, "source": "sums", "split": "train"})
    assert scores(made("verl"), "5") == [0.0]
    assert scores(made("verl_lists", scope="GROUP"), "4", "5") == [1.0, 0.0]
    assert scores(made("verl_lists"), "4") == [1.0]
    assert scores(made("verl", scope="GROUP"), "4", "5") == [1.0, 0.0]  # one call each


def test_trl() -> None:
    for scope in ("GROUP", "TRAJECTORY"):
        function = made("trl", scope=scope)
        for text, score in (("4", 1.0), ("5", 0.0), ("skip", None)):
            assert scores(function, text, task=prompt(solution="4")) == [score]
            assert scores(function, text) == [score]  # the answer, where the data has no such column
    assert scores(made("trl", scope="GROUP"), "4", "skip", "5") == [1.0, None, 0.0]
    chat = made("trl_chat", scope="GROUP", conversational=True, kwargs={"weight": 2.0})
    assert scores(chat, "a", "bb") == [2.0, 4.0]


def test_async_and_objects() -> None:
    assert scores(made("slow"), "4") == [1.0] and scores(made("slow"), "5") == [0.0]
    assert scores(made("counting"), "four") == [14.0]
    assert scores(made("Counting", kwargs={"start": 1, "bonus": 0.5}), "four") == [5.5]


def test_groups_of_every_library() -> None:
    for name in ("array", "tensor"):
        assert scores(made(name, scope="GROUP"), "a", "bb") == [1.0, 2.0]
    rewards = values(made("group_dict", scope="GROUP"), "a", "bb")
    assert rewards[1] == Value(score=2.0, details={"texts": "bb", "kind": "length"})


@pytest.mark.parametrize(
    ("returned", "score"),
    [
        ("True", 1.0),
        ("0", 0.0),
        ("np.float32(0.5)", 0.5),
        ("np.array(2)", 2.0),
        ("np.array([0.25])", 0.25),
        ("{'score': np.int64(3), 'why': [1]}", 3.0),
        ("None", None),
        ("{'score': None}", None),
    ],
)
def test_what_counts_as_a_score(returned: str, score: float | None) -> None:
    assert scores(made("says"), returned) == [score]


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        ("'0.5'", "returned '0.5' (str), expected a number"),
        ("{'reward': 1}", "a dict without 'score' (it has reward)"),
        ("nan", "the score is nan"),
        ("[1, 2]", "returned '[1, 2]' (list), expected a number"),
        ("1j", "(complex), expected a number"),
        ("np.zeros((1, 2))", "expected a number"),
    ],
)
def test_what_does_not(returned: str, error: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        scores(made("says"), returned)
    assert error in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        ("[1.0]", "user_rewards.says_all returned 1 values for 2 responses"),
        ("np.zeros((2, 1))", "an array of shape (2, 1), expected one dimension"),
        ("1.0", "returned float for 2 responses, expected a list"),
        ("'ab'", "returned str for 2 responses"),
        ("{'score': 1.0}", "one 'score' for 2 responses"),
        ("{'score': [1.0, 2.0], 'why': [1]}", "'why' returned 1 values"),
        ("[1.0, nan]", "the score is nan"),
    ],
)
def test_what_does_not_for_a_group(returned: str, error: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        scores(made("says_all", scope="GROUP"), returned, "other")
    assert error in str(caught.value)
    assert scores(made("says_all", scope="GROUP"), "None", "other") == [None, None]


@pytest.mark.parametrize(
    ("name", "settings", "error"),
    [
        ("text_only", {}, r"text_only\(text.*cannot be called as a reward; accepted are \(prompt, response, answer"),
        ("array", {}, "takes 'responses': set its scope to GROUP"),
        ("slow", {"scope": "GROUP"}, "takes 'response': set its scope to TRAJECTORY"),
        ("slow", {"kwargs": {"bonus": 1}}, "does not take kwargs.bonus"),
        ("Silent", {}, "a class whose objects cannot be called"),
    ],
)
def test_what_cannot_be_called_is_refused_at_the_start(name: str, settings: dict[str, Any], error: str) -> None:
    with pytest.raises(TypeError, match=error):
        made(name, **settings)


@pytest.mark.parametrize("path", ["os.system", "user_rewards_of_others.f", "subprocess.run"])
def test_a_path_obeys_the_allow_list(path: str) -> None:
    fn = f"{{_target_: raylign.actors.reward.python.PythonFunction, path: {path}}}"
    _, problems = compose_with_problems(["recipe=grpo", "scale=tiny", f"rewards.x.fn={fn}"])
    (problem,) = [problem for problem in problems if problem.key == "rewards.x.fn.path"]
    assert "outside the packages that may be run" in problem.why and "run.allow_targets" in problem.fix


def test_a_reward_that_does_not_apply_is_neither_zero_nor_a_failure() -> None:
    outcome = (Value(score=1.0), None)
    assert unpack_outcome(pack_outcome(outcome)) == outcome
    task = prompt()

    def group(*rewards: dict[str, Reward]) -> Group:
        from dataclasses import replace

        trajectories: Sequence[Any] = [replace(trajectory_of(task, "a"), rewards=reward) for reward in rewards]
        return Group(prompt=task, trajectories=tuple(trajectories))

    one = group(
        {"code": Absent(), "format": Value(score=0.5)},
        {"code": Value(score=1.0), "format": Value(score=0.5)},
        {"code": Absent(), "format": Absent()},
        {"code": Missing(reason="x"), "format": Value(score=0.5)},
    )
    shaper = WeightedSum(WeightedSum.Config(), {"code": 1.0, "format": 1.0}, max_tokens=8)
    (shaped,) = shaper.score([one])
    assert shaped.scores == (0.5, 1.5, None, None)
    metrics = reward_metrics([one])
    assert metrics["missing/code"] == 0.5 and metrics["missing/format"] == 0.0 and metrics["reward/code"] == 1.0
    refuse_missing([one], {"code": 0.5})
    with pytest.raises(RewardError, match="missing for 1 of 2"):
        refuse_missing([one], {"code": 0.4})
    assert "missing/code" not in reward_metrics([group({"code": Absent()})])


def test_parameters_in_another_order_get_their_own_value_or_are_refused() -> None:
    assert scores(made("answer_first"), "4", "5") == [1.0, 0.0]
    for name, why in (("completion_first", "the prompt as 'completion'"), ("openrlhf", "the response as 'prompts'")):
        with pytest.raises((ConfigError, TypeError), match=why):
            made(name)
