"""What a model thought is no part of its answer: which text is left, in one turn, in several, and after a template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raylign.chat.template import ChatTemplate
from raylign.chat.thoughts import answer_text, blanked, without_thoughts
from raylign.config.schema import DataConfig
from raylign.data.rendered import render
from raylign.data.rows import DataRow
from raylign.models.tokenizer import load_tokenizer
from raylign.records import Prompt
from raylign.testing import call, prompt, trajectory


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("4", "4"),
        (" 4\n", " 4\n"),  # nothing was thought, nothing is touched
        ("<think>5</think>\n\n4\n", "4"),
        ("5</think>4", "4"),
        ("<think>a</think>b<think>c</think>d", "bd"),
        ("<think>a</think>b</think>c", "c"),
        ("<think>a<think>b</think>c", "c"),
        ("<think>4", ""),
        ("4<think>5", "4"),
        ("<think></think>", ""),
        ("<THINK>5</Think>4", "4"),
        ("<thinking>5</thinking>4", "4"),
        ("[THINK]5[/THINK]4", "4"),
        ("<seed:think>5</seed:think>4", "4"),
        ("<thought>5</thought>4", "4"),
        ("\u25c1think\u25b75\u25c1/think\u25b74", "4"),
        ("I think> 4 </thinker>", "I think> 4 </thinker>"),
        ("The <think> tag opens one. So 4", "The <think> tag opens one. So 4"),
        ("`<think>` opens one: 4", "`<think>` opens one: 4"),
        ("<think>5</think>The <think> tag: 4", "The <think> tag: 4"),
        ("Well. <think>5</think>4", "Well. 4"),
        ("4\n<think>\n5", "4"),
    ],
)
def test_the_answer_is_what_stands_outside_of_thoughts(text: str, answer: str) -> None:
    assert without_thoughts(text) == answer
    shown = blanked(text)
    assert len(shown) == len(text) and "".join(shown.split()) == "".join(answer.split())


def test_a_thought_goes_on_where_nothing_is_said_between_two_calls() -> None:
    heard: Any = ({"role": "user", "content": "and?"},)
    inline = trajectory("<think>a", "b", "c</think>d")
    assert answer_text(prompt(), inline) == "d"
    episode = trajectory(call("a</think>b", observed=heard), "c</think>d")
    assert answer_text(prompt(), episode) == "b\nd"
    fresh = trajectory("<think>a", call("b", fresh=True))
    assert answer_text(prompt(), fresh) == "\nb"


OPEN = {"role": "assistant", "content": "Well. <think>\nThe user"}


@pytest.mark.parametrize("asked", [prompt(thinks=True), prompt(messages=({"role": "user", "content": "q"}, OPEN))])
def test_a_thought_that_the_prompt_opens_is_closed_or_takes_all(asked: Prompt) -> None:
    assert answer_text(asked, trajectory("so 5")) == ""
    assert answer_text(asked, trajectory("so 5</think>4")) == "4"
    assert answer_text(asked, trajectory(call("4", tokens=0))) == "4", "a gold answer was not sampled after it"


@pytest.mark.parametrize(
    ("suffix", "opens"), [("", False), ("<think>\\n", True), ("<think>\\n\\n</think>\\n\\n", False)]
)
def test_a_template_that_opens_a_thought_is_known_by_what_it_writes(tiny_model: Path, suffix: str, opens: bool) -> None:
    tokenizer = load_tokenizer(str(tiny_model), False)
    tokenizer.chat_template += "{% if add_generation_prompt %}{{- '" + suffix + "' -}}{% endif %}"
    assert ChatTemplate(tokenizer).thinks is opens
    rows = [DataRow(messages=({"role": "user", "content": "q"},), place="a:1")]
    (made,) = render(rows, "", DataConfig(), ChatTemplate(tokenizer)).prompts
    assert made.thinks is opens
