"""Verdicts within a reward: a verifier's child, its limits, and what is no verdict."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from raylign.actors.reward.response import trajectory_of
from raylign.actors.reward.verdicts import Verdicts
from raylign.errors import RewardError
from raylign.records import Prompt

NODE = {"_target_": "raylign.actors.reward.python.PythonFunction", "path": "hostile_rewards.act"}
PROMPT = Prompt(id="p", messages=({"role": "user", "content": "?"},), token_ids=np.zeros(1, np.int32), answer="4")


@pytest.fixture(scope="module", params=[False, True], ids=["here", "in a child"])
def verdicts(request: pytest.FixtureRequest) -> Iterator[Verdicts]:
    made = Verdicts({**NODE, "isolated": request.param}, "answers")
    yield made
    made.close()


def scores(verdicts: Verdicts, *texts: str) -> list[float]:
    return [value.score for value in verdicts(PROMPT, [trajectory_of(PROMPT, text) for text in texts])]


def test_each_trajectory_is_asked_about_alone(verdicts: Verdicts) -> None:
    assert scores(verdicts, "1", "0", "0.5") == [1.0, 0.0, 0.5] and scores(verdicts) == []


def test_a_function_that_does_not_apply_gives_no_verdict(verdicts: Verdicts) -> None:
    with pytest.raises(RewardError, match="answers does not apply"):
        scores(verdicts, "1", "absent")


def test_what_is_no_number_gives_no_verdict(verdicts: Verdicts) -> None:
    for text in ("raise the alarm", "nan"):
        with pytest.raises((RewardError, ValueError)):
            scores(verdicts, text)
    assert scores(verdicts, "1") == [1.0]


def test_a_function_that_ends_its_child_gives_no_verdict_and_the_next_one_does() -> None:
    isolated = Verdicts({**NODE, "isolated": True}, "answers")
    try:
        with pytest.raises(RewardError, match="ended its process"):
            scores(isolated, "exit")
        assert scores(isolated, "1") == [1.0]
    finally:
        isolated.close()


def test_an_answer_that_costs_too_much_is_wrong_and_not_missing() -> None:
    verifier = Verdicts({"_target_": "raylign.actors.reward.router.Verifier"}, "answers")
    asked = Prompt(
        id="p",
        messages=({"role": "user", "content": "?"},),
        token_ids=np.zeros(1, np.int32),
        answer="4",
        meta={"verifier": "boxed_math"},
    )
    try:
        values = verifier(asked, [trajectory_of(asked, text) for text in (r"\boxed{10!!!!}", r"\boxed{4}")])
        assert [value.score for value in values] == [0.0, 1.0]
    finally:
        verifier.close()
