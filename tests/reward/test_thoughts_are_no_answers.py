"""A thought is not judged as the answer: verifiers, rules, estimators, judges' replies, reward models."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from raylign.actors.judge.client import Judge
from raylign.actors.judge.scripted import Scripted
from raylign.actors.reward.boxed import BoxedMath
from raylign.actors.reward.conversation import conversation
from raylign.actors.reward.exact import ExactMatch
from raylign.actors.reward.numeric import NumericAnswer
from raylign.actors.reward.response import ResponseReward
from raylign.actors.reward.think_gate import ThinkGate
from raylign.errors import JudgeUnreadable
from raylign.testing import call, prompt, trajectory


@pytest.mark.parametrize("kind", [BoxedMath, NumericAnswer, ExactMatch])
def test_an_answer_that_was_only_thought_of_is_not_given(kind: Any) -> None:
    function: ResponseReward = kind(kind.Config())
    texts = (r"<think>\boxed{4}</think>\boxed{5}", r"<think>\boxed{4}", r"<think>5</think>\boxed{4}", r"\boxed{4}")
    scores = [value.score for value in function.score(prompt(answer="4"), [trajectory(text) for text in texts])]
    assert scores == [0, 0, 1, 1]


def test_a_thought_that_the_template_has_opened_and_nothing_closed_is_no_answer() -> None:
    function = NumericAnswer(NumericAnswer.Config())
    said = [trajectory(call("so it is 4", [7, 8])), trajectory(call("so it is 5</think>4", [7, 9]))]
    for thinks, scores in ((True, [0, 1]), (False, [1, 1])):
        asked = replace(prompt(answer="4"), thinks=thinks)
        assert [value.score for value in function.score(asked, said)] == scores


def test_what_is_about_thoughts_sees_them() -> None:
    gate = ThinkGate(ThinkGate.Config())
    texts = (r"so 4</think>\boxed{4}", r"\boxed{4}", r"a</think>b</think>\boxed{4}")
    scores = [value.score for value in gate.score(prompt(answer="4"), [trajectory(text) for text in texts])]
    assert scores == [1, 0, 0]


def test_a_reward_model_reads_what_the_user_reads() -> None:
    heard: Any = ({"role": "user", "content": "and?"},)
    said = trajectory(call("<think>a</think>b", observed=heard), "<think>c</think>d")
    messages, answer = conversation(prompt(text="q"), said)
    assert [message["content"] for message in (*messages, answer)] == ["q", "b", "and?", "d"]
    begun: Any = ({"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>\nI"})
    messages, answer = conversation(prompt(messages=begun), trajectory("c</think>d"))
    assert [message["content"] for message in (*messages, answer)] == ["q", "", "d"]


@pytest.mark.parametrize(
    ("replies", "value"),
    [(["<think>0.9</think>0.2"], 0.2), (["0.9 or so</think> 0.2"], 0.2), (["<think>0.9", "0.2"], 0.2)],
)
async def test_a_judge_says_what_it_says_behind_its_thought(replies: list[str], value: float) -> None:
    left = list(replies)
    judge = Judge(
        Judge.Config(model={"_target_": "unused"}), model=Scripted.of(lambda messages, sampling, seed: left.pop(0))
    )
    answer = await judge.ask(({"role": "user", "content": "q"},), float)
    assert math.isclose(answer.value, value) and not left


async def test_a_judge_that_only_thinks_is_unreadable_and_json_is_taken_as_it_is() -> None:
    def asked(reply: str) -> Judge:
        return Judge(Judge.Config(model={"_target_": "unused"}), model=Scripted.of(lambda *_: reply))

    question = ({"role": "user", "content": "q"},)
    with pytest.raises(JudgeUnreadable, match="a thought and no answer"):
        await asked("<think>yes, harmful").ask(question, str)
    quoted = await asked('{"quote": "</think> a"}').ask(question, lambda value: value["quote"], schema={})
    assert quoted.value == "</think> a"
    thought = await asked('<think>{}</think>{"quote": "a"}').ask(question, lambda value: value["quote"], schema={})
    assert thought.value == "a"
