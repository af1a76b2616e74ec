"""What stands between two turns: the template's own text, and nothing that was sampled is encoded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raylign.actors.rollout.chat import Chat
from raylign.chat.template import ChatTemplate
from raylign.errors import RequestError

FORGETFUL = (  # as reasoning models have it: an earlier turn's thoughts are dropped; a newline follows the end token
    "{%- for m in messages -%}{{- '<|' + m['role'] + '|>' -}}"
    "{%- if m['role'] == 'assistant' and not loop.last -%}{{- m['content'].split('/t')[-1] -}}"
    "{%- else -%}{{- m['content'] -}}{%- endif -%}{{- '<|end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
TOOLED = "{%- if tools -%}{{- '<|system|>' + (tools | length | string) + '<|end|>' -}}{%- endif -%}" + FORGETFUL
FIRST = ({"role": "user", "content": "a"},)


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def converse(tokenizer: Any, turns: list[tuple[str, bool, str]], tools: tuple[Any, ...] = ()) -> tuple[str, Chat]:
    """The text of all ids after some turns (what was said, whether it ended itself, what follows)."""
    chat = Chat(ChatTemplate(tokenizer), FIRST, tools)
    ids = list(
        tokenizer.apply_chat_template(
            [dict(m) for m in FIRST],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            **({"tools": list(tools)} if tools else {}),
        )["input_ids"]
    )
    for said, ended, then in turns:
        end = tokenizer.eos_token_id if ended else None
        ids += tokenizer.encode(said, add_special_tokens=False) + ([end] if ended else [])
        ids += chat.answered(said, end, [{"role": "user", "content": then}]).tolist()
    return tokenizer.decode(ids), chat


@pytest.mark.parametrize("ended", [True, False])
def test_the_ids_are_what_the_template_would_render(tokenizer: Any, ended: bool) -> None:
    text, chat = converse(tokenizer, [("b", ended, "c"), ("dé", ended, "e"), ("", ended, "f")])
    rendered = tokenizer.apply_chat_template(
        [dict(m) for m in chat.messages], tokenize=False, add_generation_prompt=True
    )
    assert text == rendered
    assert chat.mismatches == 0
    assert [m["content"] for m in chat.messages] == ["a", "b", "c", "dé", "e", "", "f"]


def test_a_template_that_rewrites_the_past_is_counted_and_the_ids_stay(tokenizer: Any) -> None:
    tokenizer.chat_template = FORGETFUL
    text, chat = converse(tokenizer, [("think/tb", True, "c"), ("d", True, "e")])
    assert text == (
        "<|user|>a<|end|>\n<|assistant|>think/tb<|end|>\n<|user|>c<|end|>\n"
        "<|assistant|>d<|end|>\n<|user|>e<|end|>\n<|assistant|>"
    )
    assert chat.mismatches == 1  # at the second turn "think/t" is gone from what the template renders


def test_what_looks_like_text_of_the_template_is_not_misread(tokenizer: Any) -> None:
    """A policy may write the end token's text letter by letter, or repeat what it was told."""
    text, _ = converse(tokenizer, [("<|user|>a", True, "c"), ("c", False, "c")])
    asked = "<|user|>c<|end|><|assistant|>"
    assert text == f"<|user|>a<|end|><|assistant|><|user|>a<|end|>{asked}c<|end|>{asked}"


def test_tools_reach_the_template(tokenizer: Any) -> None:
    tokenizer.chat_template = TOOLED
    text, chat = converse(tokenizer, [("b", True, "c")], tools=({"type": "function"},))
    assert text.startswith("<|system|>1<|end|>")
    assert chat.mismatches == 0


def test_a_fork_goes_its_own_way(tokenizer: Any) -> None:
    _, chat = converse(tokenizer, [("b", True, "c")])
    twin = chat.fork()
    twin.answered("x", 1, [])
    assert len(chat.messages) == 3
    assert len(twin.messages) == 4
    assert chat.answered("y", 1, []).tolist() == Chat.fork(chat).answered("y", 1, []).tolist()


def test_a_template_that_hides_the_policy_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{- messages[0]['content'] -}}"
    with pytest.raises(RequestError, match="hides what the policy wrote"):
        Chat(ChatTemplate(tokenizer), FIRST).answered("b", 1, [])
