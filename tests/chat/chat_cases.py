"""Rows as verl's, TRL's and OpenAI's logs have them: one for each thing that a conversation can say."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def call(city: str, number: str = "call12345") -> dict[str, Any]:
    return {"id": number, "type": "function", "function": {"name": "weather", "arguments": {"city": city}}}


def result(text: str, number: str = "call12345") -> dict[str, Any]:
    return {"role": "tool", "content": text, "tool_call_id": number, "name": "weather"}


@dataclass(frozen=True)
class Case:
    """A prompt, its answer and a worse one, and what is said next in an episode. `without`: families that refuse it."""

    name: str
    messages: list[dict[str, Any]]
    answer: dict[str, Any]
    next: list[dict[str, Any]] = field(default_factory=lambda: [user("And then?")])
    tools: tuple[dict[str, Any], ...] = ()
    without: tuple[str, ...] = ()


def write(case: Case, folder: Path, pair: bool) -> Path:
    """A file with the case's row, or its pair, as the system that the case's name begins with would write it.

    verl: parquet, in which every struct of a column has all keys. trl: a prompt and a completion, tools as JSON text.
    openai: a log, with null contents beside calls, arguments as JSON text, contents of users as parts.
    """
    style = case.name.partition(":")[0]
    form = _as_logged if style == "openai" else dict
    messages, answer = [form(message) for message in case.messages], form(case.answer)
    tools: Any = list(case.tools) or None
    row: dict[str, Any] = {"messages": [*messages, answer], "tools": tools}
    if pair:
        row = {"prompt": messages, "chosen": [answer], "rejected": [said("no")], "tools": tools}
    elif style == "trl":
        row = {"prompt": messages, "completion": [answer], "tools": json.dumps(tools) if tools else None}
    if style == "verl":
        path = folder / "a.parquet"
        pq.write_table(pa.Table.from_pylist([row]), path)
        return path
    path = folder / "a.jsonl"
    path.write_text(json.dumps(row))
    return path


def _as_logged(message: dict[str, Any]) -> dict[str, Any]:
    logged = {**message, "refusal": None}
    if message["role"] == "user":
        logged["content"] = [{"type": "text", "text": message["content"]}]
    if calls := message.get("tool_calls"):
        logged["content"] = message["content"] or None
        logged["tool_calls"] = [
            {**one, "function": {**one["function"], "arguments": json.dumps(one["function"]["arguments"])}}
            for one in calls
        ]
    return logged


SYSTEM = {"role": "system", "content": "Be short."}
NO_TOOLS = ("gemma", "phi3")
NO_THOUGHT = ("gemma", "phi3", "glm4", "llama3", "mistral")
CASES = (
    Case("verl: one question", [user("What is 2 + 2?")], said("4")),
    Case("verl: a system message", [SYSTEM, user("What is 2 + 2?")], said("4"), without=("gemma",)),
    Case("trl: an answer of several lines", [user("Say a\n\nb")], said("a\n\nb é 你")),
    Case("trl: a dialogue", [user("hi"), said("hello"), user("What is 2?")], said("It is 2.")),
    Case("trl: thoughts in the text", [user("2 + 2?")], said("<think>\nadd\n</think>\n\n4")),
    Case("openai: thoughts apart", [user("2 + 2?")], said("4", reasoning_content="add them"), without=NO_THOUGHT),
    Case("openai: an answer with code", [user("Code?")], said("```python\nprint(1)\n```")),
    Case("openai: an empty line first", [user("\n hi \n")], said("It is.")),
    Case("openai: an answer that is a call", [user("Weather?")], said("", tool_calls=[call("Paris")]),
         [result('{"t": 20}')], (WEATHER,), NO_TOOLS),
    Case("openai: a call with words", [user("Weather?")], said("I look.", tool_calls=[call("Köln")]),
         [result("rain")], (WEATHER,), NO_TOOLS),
    Case("openai: after a tool has answered",
         [user("Weather?"), said("", tool_calls=[call("Paris")]), result("20 degrees")], said("It is warm."),
         tools=(WEATHER,), without=NO_TOOLS),
    Case("openai: tools that are not called", [user("hi")], said("hello"), tools=(WEATHER,), without=NO_TOOLS),
    Case("trl: two calls and their results",
         [user("Both?"), said("", tool_calls=[call("Paris", "000000001"), call("Rome", "000000002")]),
          result("20", "000000001"), result("25", "000000002")], said("20 and 25."),
         tools=(WEATHER,), without=(*NO_TOOLS, "llama3")),
    Case("verl: an answer that is begun", [user("2 + 2?"), said("The sum")], said(" is 4")),
)  # fmt: skip
