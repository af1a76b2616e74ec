"""Rows of dialogues: all assistant turns carry loss, and every id stands where a rollout would put it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.actors.rollout.chat import Chat
from raylign.chat.template import ChatTemplate
from raylign.errors import DataError
from raylign.recipes.stages.demonstrations import demonstrations
from raylign.records import Prompt

TOOLS = (
    {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {}, "b": {}}}}},
    {"name": "get", "parameters": {"properties": {"k": {}}}},
)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def prompt(tokenizer: Any, messages: list[dict[str, Any]], **fields: Any) -> Prompt:
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, tools=list(fields.get("tools", ())) or None
    )
    ids = np.array(tokenizer.encode(text, add_special_tokens=False), np.int32)
    return Prompt(id="p", messages=tuple(messages), token_ids=ids, **fields)


DIALOGUE = [
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "get", "arguments": '{"k": 1}'}}]},
    {"role": "tool", "content": "7"},
    {"role": "tool", "content": "8"},
    {"role": "assistant", "content": "It is 7."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "Bye"},
]


def test_the_tiny_template_shows_tools_and_their_results(tokenizer: Any) -> None:
    messages = [
        {"role": "user", "content": "1?"},
        {"role": "assistant", "content": "x"},
        {"role": "tool", "content": "7"},
    ]
    text = tokenizer.apply_chat_template(messages, tools=list(TOOLS), tokenize=False, add_generation_prompt=True)
    assert text == "<|tool|>add(a,b)get(k)<|end|><|user|>1?<|end|><|assistant|>x<|end|><|tool|>7<|end|><|assistant|>"


def test_all_assistant_turns_are_trained_and_nothing_else(tokenizer: Any) -> None:
    asked = prompt(tokenizer, [{"role": "user", "content": "1?"}], meta={"demonstration": DIALOGUE}, tools=TOOLS)
    (row,) = demonstrations([asked], tokenizer)
    text = tokenizer.decode(row.token_ids.tolist())
    call = '<tool_call>{"name": "get", "arguments": {"k": 1}}</tool_call>'
    assert text == (
        f"<|tool|>add(a,b)get(k)<|end|><|user|>1?<|end|><|assistant|>{call}<|end|><|tool|>7<|end|><|tool|>8<|end|>"
        "<|assistant|>It is 7.<|end|><|user|>Thanks<|end|><|assistant|>Bye<|end|>"
    )
    trained = tokenizer.decode(row.token_ids[row.loss_mask].tolist())
    assert trained == f"{call}<|end|>It is 7.<|end|>Bye<|end|>"
    assert row.prompt_length == len(asked.token_ids)


def test_ids_are_those_of_a_rollout_that_says_the_same(tokenizer: Any) -> None:
    asked = prompt(tokenizer, [{"role": "user", "content": "1?"}], meta={"demonstration": DIALOGUE[3:]}, tools=TOOLS)
    (row,) = demonstrations([asked], tokenizer)
    chat = Chat(ChatTemplate(tokenizer), asked.messages, asked.tools)
    end = tokenizer.eos_token_id
    between = chat.answered("It is 7.", end, [{"role": "user", "content": "Thanks"}])
    said = [tokenizer.encode(text, add_special_tokens=False) for text in ("It is 7.", "Bye")]
    rolled = [*asked.token_ids, *said[0], end, *between, *said[1], end]
    assert row.token_ids.tolist() == rolled


def test_a_single_target_is_as_before(tokenizer: Any) -> None:
    asked = prompt(tokenizer, [{"role": "user", "content": "2+2="}], meta={"target": "4"})
    (row,) = demonstrations([asked, replace(asked, meta={})], tokenizer)
    assert tokenizer.decode(row.token_ids[row.loss_mask].tolist()) == "4<|end|>"
    assert row.token_ids[: row.prompt_length].tolist() == asked.token_ids.tolist()


def test_turns_within_the_prompt_are_trained_where_wanted(tokenizer: Any) -> None:
    past = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    asked = prompt(tokenizer, past, meta={"target": "d"})
    (last,) = demonstrations([asked], tokenizer)
    (whole,) = demonstrations([asked], tokenizer, all_turns=True)
    assert last.token_ids.tolist() == whole.token_ids.tolist()
    assert tokenizer.decode(last.token_ids[last.loss_mask].tolist()) == "d<|end|>"
    assert tokenizer.decode(whole.token_ids[whole.loss_mask].tolist()) == "b<|end|>d<|end|>"
    assert tokenizer.decode(whole.token_ids[: whole.prompt_length].tolist()) == "<|user|>a<|end|><|assistant|>"


def test_demonstrations_out_of_order_are_named(tokenizer: Any) -> None:
    start = [{"role": "user", "content": "1?"}]
    with pytest.raises(DataError, match="begins with tool"):
        demonstrations([prompt(tokenizer, start, meta={"demonstration": DIALOGUE[1:]})], tokenizer)
    with pytest.raises(DataError, match="two assistant messages in a row"):
        demonstrations([prompt(tokenizer, start, meta={"demonstration": [DIALOGUE[0], DIALOGUE[3]]})], tokenizer)
    with pytest.raises(DataError, match="none of 1 training prompts"):
        demonstrations([prompt(tokenizer, start)], tokenizer)
