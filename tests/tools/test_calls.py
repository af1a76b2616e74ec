"""Tool calls in what a policy wrote, and what becomes of those that are wrong."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from raylign.actors.tools.answers import ERROR_MARK, LiveTools, Source, ToolAnswer, answers
from raylign.actors.tools.calls import BadCall, CallFault, ToolCall, canonical, read_message, write_call
from raylign.actors.tools.recorded import RecordedTools, simulation
from raylign.actors.tools.tool import FunctionTool, violations
from raylign.errors import JudgeUnreadable, ToolFailure
from raylign.records import Prompt

NUMBER = {"type": "number"}
ADD = {"type": "object", "properties": {"a": NUMBER, "b": NUMBER}, "required": ["a", "b"]}
PROMPT = Prompt(id="p", messages=(), token_ids=np.zeros(0, np.int32))


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>',
        'Let me see. <tool_call>{"name": "add", "arguments": "{\\"a\\": 1, \\"b\\": 2}"}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}',
        '{"name": "add", "arguments": {"b": 2, "a": 1}}',
        '<think>I add</think>{"name": "add", "parameters": {"a": 1, "b": 2}}',
        write_call("add", {"a": 1, "b": 2}),
    ],
)
def test_forms_that_are_read(text: str) -> None:
    (call,) = read_message(text).calls
    assert isinstance(call, ToolCall)
    assert call.key == canonical("add", {"a": 1, "b": 2})


def test_parts_of_a_message() -> None:
    message = read_message("<think>hm</think> I look. " + write_call("f", {}) + " Then " + write_call("g", {"x": 1}))
    assert (message.thinking, message.reply) == ("hm", "I look.  Then")
    assert [call.name for call in message.good] == ["f", "g"] and not message.bad


def test_a_thought_holds_no_calls() -> None:
    message = read_message(f"<think>{write_call('f', {})}</think>done")
    assert (message.calls, message.reply) == ((), "done")
    assert read_message(f"no opening tag {write_call('f', {})}</think>done").calls == ()
    assert read_message(f"<think>never closed {write_call('f', {})}").calls == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('<tool_call>{"name": "add", "arguments": </tool_call>', "no JSON"),
        ('<tool_call>{"arguments": {}}</tool_call>', "no object with a name"),
        ('<tool_call>{"name": "add", "arguments": [1]}</tool_call>', "arguments that are no object"),
        ('<tool_call>{"name": "add", "arguments": "1,2"}</tool_call>', "arguments that are no JSON"),
        ('{"name": "add", "arguments": {', "no JSON"),
        ("<tool_call></tool_call>", "no JSON"),
        ("<tool_call>" + "[" * 1000, "no JSON"),
        ('{"name": "add", "arguments": ' + "[" * 100_000, "no JSON"),
        ('<tool_call>{"name": "add", "arguments": "' + "[" * 5000 + '"}', "arguments that are no JSON"),
        ('<tool_call>{"name": "add", "arguments": ' + '{"a": ' * 90 + "1" + "}" * 91, "nested more than 64 deep"),
        ('{"name": "add", "arguments": ' + '{"a": ' * 900 + "1" + "}" * 901, "nested more than 64 deep"),
    ],
)
def test_broken_calls_are_typed(text: str, why: str) -> None:
    (call,) = read_message(text).calls
    assert isinstance(call, BadCall) and call.fault is CallFault.UNPARSABLE and why in call.why


@pytest.mark.parametrize("arguments", ["null", "{}", '"null"', '"{}"'])
def test_no_arguments_in_every_spelling(arguments: str) -> None:
    text = f'{{"name": "now", "arguments": {arguments}}}'
    for written in (text, f"<tool_call>{text}</tool_call>"):
        assert read_message(written).calls == (ToolCall(name="now", arguments={}),)


@pytest.mark.parametrize("text", ["{ is a brace", '{"temperature": 21}', "[1, 2]", "plain", ""])
def test_replies_that_are_no_calls(text: str) -> None:
    assert read_message(text).calls == () and read_message(text).reply == text


def test_violations() -> None:
    schema = {**ADD, "properties": {**ADD["properties"], "unit": {"enum": ["m", "km"]}}}  # type: ignore[dict-item]
    assert violations(schema, {"a": 1, "b": 2.5, "unit": "m"}) == []
    assert any("'b' is a required" in line for line in violations(schema, {"a": 1}))
    assert any(line.startswith("a:") for line in violations(schema, {"a": "1", "b": 2}))
    assert any(line.startswith("unit:") for line in violations(schema, {"a": 1, "b": 2, "unit": "mile"}))
    assert any("'c' was unexpected" in line for line in violations(schema, {"a": 1, "b": 2, "c": 3}))
    assert violations({}, {"anything": 1}) == []


async def test_live_tools_answer_in_order_and_at_most_so_many_at_once() -> None:
    now = most = 0

    async def slow(a: float, b: float) -> float:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01 * (3 - a))
        now -= 1
        return a + b

    tools = LiveTools([FunctionTool("add", "Adds.", ADD, slow)])
    calls: list[Any] = [ToolCall(name="add", arguments={"a": i, "b": 1}) for i in range(4)]
    answered = await answers(calls, tools, PROMPT, limit=3, at_once=2)
    assert [answer.text for answer in answered[:3]] == ["1", "2", "3"]
    assert answered[3].fault is CallFault.TOO_MANY and most == 2
    assert tools.schemas[0]["function"]["name"] == "add"


async def test_faults_are_answered_and_marked() -> None:
    tools = LiveTools([FunctionTool("add", "Adds.", ADD, lambda a, b: a + b)])
    calls: list[Any] = [
        ToolCall(name="sub", arguments={}),
        ToolCall(name="add", arguments={"a": 1}),
        *read_message("<tool_call>?</tool_call>").calls,
    ]
    answered = await answers(calls, tools, PROMPT)
    assert [answer.fault for answer in answered] == [CallFault.UNKNOWN, CallFault.SCHEMA, CallFault.UNPARSABLE]
    assert all(json.loads(answer.text)["error"] == ERROR_MARK for answer in answered)


SCHEMA = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {
    "key": {"type": "integer"}}, "required": ["key"]}}}  # fmt: skip
DIALOGUE = Prompt(
    id="d",
    messages=(),
    token_ids=np.zeros(0, np.int32),
    tools=(SCHEMA,),
    meta={"recorded": [{"name": "look", "arguments": {"key": 1}, "result": {"value": 7}}]},
)
SIMULATOR = {"model": {"_target_": "raylign.actors.judge.scripted.Scripted", "function": ""}}


def simulator(function: str) -> dict[str, Any]:
    return {"model": {**SIMULATOR["model"], "function": f"raylign.actors.judge.scripted.{function}"}}


async def ask(key: Any, name: str = "look", function: str = "echo") -> ToolAnswer:
    tools = RecordedTools(RecordedTools.Config(simulator=simulator(function)))
    return await tools.answer(ToolCall(name=name, arguments={"key": key}), DIALOGUE)


async def test_recorded_first_then_schema_then_simulator() -> None:
    assert await ask(1) == ToolAnswer(text='{"value": 7}', source=Source.RECORDED)
    assert (await ask("one")).fault is CallFault.SCHEMA
    assert (await ask(1, name="delete")).fault is CallFault.UNKNOWN
    with pytest.raises(JudgeUnreadable):  # echo answers no JSON: the simulator's error, not an answer
        await ask(2)
    with pytest.raises(ToolFailure, match="no simulator"):
        await RecordedTools(RecordedTools.Config()).answer(ToolCall(name="look", arguments={"key": 2}), DIALOGUE)


def test_the_simulator_sees_schema_examples_and_the_call() -> None:
    call = ToolCall(name="look", arguments={"key": 2})
    text = simulation(call, SCHEMA["function"], DIALOGUE.meta["recorded"])[1]["content"]
    assert '{"value": 7}' in text and '"required"' in text
    assert json.loads(text.splitlines()[-1]) == {"name": "look", "arguments": {"key": 2}}
