"""Whatever a row or a message says is kept in one form, or refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylign.data.messages import messages_of, tools_of
from raylign.data.pair_rows import pair_text
from raylign.data.readers import load_rows
from raylign.data.rows import DataRow
from raylign.errors import DataError

USER = {"role": "user", "content": "Weather in Bonn?"}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bonn"}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


def rows(path: Path, *raw: dict[str, Any], **keys: str) -> list[DataRow]:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(raw)), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in raw))
    return list(load_rows(path, **keys)[1])


FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "null content": ({"role": "assistant", "content": None, "tool_calls": [CALL]}, CALLING),
    "no content": ({"role": "assistant", "tool_calls": [CALL]}, CALLING),
    "arguments as text": (
        {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}]},
        CALLING,
    ),
    "flat call": ({"role": "assistant", "tool_calls": [{"name": "weather", "arguments": {"city": "Bonn"}}]}, CALLING),
    "calls as text": ({"role": "assistant", "tool_calls": json.dumps([CALL])}, CALLING),
    "null arguments": (
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": None}}]},
        {**CALLING, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]},
    ),
    "legacy call": (
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city": "Bonn"}'}},
        CALLING,
    ),
    "nulls at every depth": (
        {
            "role": "assistant",
            "tool_calls": [
                {"id": None, "function": {"name": "weather", "arguments": {"city": "Bonn", "day": None}}, "type": None}
            ],
            "name": None,
        },
        CALLING,
    ),
    "parts": (
        {"role": "user", "content": [{"type": "text", "text": "a", "image": None}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "ab"},
    ),
    "thinking part": (
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "a"}]},
        {"role": "assistant", "content": "a", "reasoning_content": "t"},
    ),
    "reasoning": (
        {"role": "assistant", "content": "a", "reasoning": "t"},
        {"role": "assistant", "content": "a", "reasoning_content": "t"},
    ),
    "developer": ({"role": "developer", "content": "s"}, {"role": "system", "content": "s"}),
    "function role": (
        {"role": "function", "name": "f", "content": "1"},
        {"role": "tool", "name": "f", "content": "1"},
    ),
    "sharegpt": ({"from": "human", "value": "hi"}, {"role": "user", "content": "hi"}),
    "sharegpt call": ({"from": "function_call", "value": json.dumps(CALL["function"])}, CALLING),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_message_is_read_alike(form: str) -> None:
    written, read = FORMS[form]
    assert messages_of([written], "a.jsonl:1") == (read,)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"role": "user", "content": None}, "has no content"),
        ({"role": "user"}, "has no content"),
        ({"role": "narrator", "content": "x"}, "role 'narrator'"),
        ({"role": 3, "content": "x"}, "role 3"),
        ({"role": "user", "content": {"a": 1}}, "neither a text nor parts"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "type 'image_url'"),
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "of an assistant"),
        ({"role": "user", "content": "x", "images": ["a.png"]}, "holds media"),
        ({"role": "assistant", "content": None, "refusal": "no"}, "is a refusal"),
        ({"role": "assistant", "content": "x", "weight": 0}, "weight=0"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, "not valid JSON"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}, "must be an object"),
        ({"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}, "no function with a name"),
        ({"role": "assistant", "tool_calls": [{"type": "custom", "name": "f"}]}, "type 'custom'"),
        ({"role": "assistant", "tool_calls": [CALL], "function_call": {"name": "f"}}, "both tool_calls"),
        ({"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"n": 2**64}}]}, "beyond 64 bit"),
        ({"role": "assistant", "tool_calls": [{"name": "f", "arguments": '{"n": [NaN]}'}]}, "the number nan"),
        ({"role": "assistant", "content": "x", "reasoning": "a", "thinking": "b"}, "twice and differently"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(message: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=f"a.jsonl:7: message 2 of the prompt.*{why}"):
        messages_of([USER, message], "a.jsonl:7")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_calls_reasoning_and_tools_reach_every_kind_of_row(tmp_path: Path, suffix: str) -> None:
    other = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", **CALL}]}
    [row, _] = rows(
        tmp_path / f"a{suffix}",
        {"messages": [USER, CALLING], "tools": [TOOL]},
        {"messages": [USER, {**other, "reasoning_content": "t"}], "tools": [TOOL]},
    )
    assert row.target == CALLING and row.messages == (USER,)
    assert [tool["function"]["name"] for tool in row.tools] == ["weather"] and "tools" not in row.meta
    pair = pair_text(
        {"prompt": [USER], "chosen": [CALLING], "rejected": "x", "tools": json.dumps([TOOL])}
        | {"rejected": [{"role": "assistant", "content": "It rains."}]},
        "here:1",
    )
    assert pair is not None and (pair.chosen, pair.rejected) == (CALLING, "It rains.") and pair.tools == (TOOL,)


def test_tools_are_whole_and_named() -> None:
    flat = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string", "enum": None}}}}
    [tool] = tools_of([flat], "here:1")
    assert tool["function"]["parameters"]["properties"] == {"a": {"type": "string"}}
    [tool] = tools_of([{"name": "f", "input_schema": {"type": "object"}}], "here:1")
    assert tool["function"]["parameters"] == {"type": "object"}
    for wrong in ("[{]", "3", [{"description": "x"}], [{"name": "f", "parameters": "x"}], {"name": "f"}):
        with pytest.raises(DataError, match="here:1"):
            tools_of(wrong, "here:1")


def test_prompts_that_end_with_the_assistant_and_other_layouts(tmp_path: Path) -> None:
    opened = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "<think>"}]
    [row] = rows(tmp_path / "a.jsonl", {"prompt": opened})
    assert row.messages == tuple(opened)
    [row] = rows(tmp_path / "b.jsonl", {"instruction": "Add.", "input": "1 1", "output": "2", "system": "S"})
    assert [message["content"] for message in row.messages] == ["S", "Add.\n\n1 1"] and row.target == "2"
    talk = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]
    [row] = rows(tmp_path / "c.jsonl", {"conversations": talk})
    assert (row.messages[0]["content"], row.target) == ("hi", "ho")
    [row] = rows(tmp_path / "d.jsonl", {"messages": [USER], "solution": "12"})
    assert (row.messages, row.answer, row.verifier) == ((USER,), "12", "boxed_math")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": None, "answer": "1"}, "the prompt is null"),
        ({"prompt": "x", "images": ["a.png"]}, "'images' holds media"),
        ({"prompt": [{"role": "system", "content": "a"}, USER], "system": "b"}, "differ"),
        ({"prompt": "x", "chat_template_kwargs": {"enable_thinking": False}}, "not honoured"),
        ({"prompt": "x", "completion": [USER]}, "one message of the assistant"),
        ({"instruction": "x", "output": "y", "history": [["a", "b"]]}, "history"),
        ({"prompt": "x", "tools": [TOOL], "functions": [TOOL]}, "both tools and functions"),
    ],
)
def test_a_row_that_cannot_be_honoured_is_refused_with_its_line(tmp_path: Path, row: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=rf"a\.jsonl:1: .*{why}"):
        rows(tmp_path / "a.jsonl", row)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "x", "enable_thinking": False}, r"enable_thinking of single rows .* model\.template_args"),
        ({"prompt": "x", "chat_template_kwargs": {"a": 1}}, r"chat_template_kwargs of single rows"),
        ({"prompt": "y", "messages": [{"role": "user", "content": "x"}]}, "prompt and messages say different things"),
    ],
)
def test_columns_that_would_have_no_effect_are_refused(tmp_path: Path, row: dict[str, Any], why: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=f"a.jsonl:1: {why}"):
        list(load_rows(tmp_path / "a.jsonl")[1])


def test_a_prompt_beside_its_whole_conversation_is_part_of_it(tmp_path: Path) -> None:
    conversation = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "z"}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "x", "messages": conversation}))
    (row,) = load_rows(tmp_path / "a.jsonl")[1]
    assert row.messages == (conversation[0],) and row.target == "z"
