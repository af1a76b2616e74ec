"""The rule filter with its counts, and the chance by which easy dialogues are dropped."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from raylign.recipes.cm2.filters import RULES, FilterReport, drop_easy, drop_probability, ease, rule_filter

LOOK = {"name": "look", "parameters": {"type": "object", "properties": {"k": {"type": "integer"}}, "required": ["k"]}}
SEND = {"name": "send", "parameters": {"type": "object", "properties": {}}}


def call(name: str = "look", arguments: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": {"k": 1} if arguments is None else arguments}}


def sound() -> dict[str, Any]:
    return {
        "tools": [{"type": "function", "function": LOOK}, SEND],
        "messages": [
            {"role": "system", "content": "Help."},
            {"role": "user", "content": "What is in 1?"},
            {"role": "assistant", "content": "<think>I look</think>", "tool_calls": [call(), call("send", "{}")]},
            {"role": "tool", "content": "7"},
            {"role": "tool", "content": "sent"},
            {"role": "assistant", "content": "7"},
            {"role": "user", "content": "Thanks"},
            {"role": "assistant", "content": "Welcome"},
        ],
    }


def broken(rule: str) -> dict[str, Any]:
    found = sound()
    messages = found["messages"]
    if rule == "role_order":
        messages.insert(1, {"role": "assistant", "content": "Hello"})
    elif rule == "call_response_mismatch":
        messages[2]["tool_calls"].pop()
    elif rule == "invalid_json":
        messages[2]["tool_calls"][1] = call("send", "{broken")
    elif rule == "duplicate_tools":
        found["tools"].append(SEND)
    elif rule == "schema_violation":
        messages[2]["tool_calls"][0] = call(arguments={"k": "one"})
    elif rule == "tool_output_in_text":
        messages[5]["content"] = "<tool_response>7</tool_response>"
    elif rule == "think_tags":
        messages[5]["content"] = "</think>7<think>"
    elif rule == "empty_content":
        messages[3]["content"] = " "
    return found


def test_a_sound_dialogue_breaks_no_rule() -> None:
    assert [name for name, breaks in RULES.items() if breaks(sound())] == []


@pytest.mark.parametrize("rule", list(RULES))
def test_every_rule_finds_its_fault_and_no_other(rule: str) -> None:
    assert [name for name, breaks in RULES.items() if breaks(broken(rule))] == [rule]


def test_unknown_tools_violate_the_schema() -> None:
    found = sound()
    found["messages"][2]["tool_calls"][1] = call("delete", {})
    assert RULES["schema_violation"](found)


def test_counts_per_rule() -> None:
    report = FilterReport()
    both = broken("duplicate_tools")
    both["messages"][5]["content"] = "</think>7"
    kept = list(rule_filter([sound(), broken("think_tags"), both, sound()], report))
    assert kept == [sound(), sound()]
    assert (report.seen, report.kept, report.dropped) == (4, 2, 2)
    assert report.by_rule == {"think_tags": 2, "duplicate_tools": 1}


def test_ease_and_the_chance_to_drop() -> None:
    found = sound()
    assert ease(found) == {
        "candidate_tools": 2,
        "selected_tools": 2,
        "turns": 2,
        "tool_calls": 2,
        "max_steps": 2,
        "assistant_messages": 3,
    }
    assert drop_probability(found) == pytest.approx(1 - (1 - 0.4) * (1 - 0.3))
    easy = copy.deepcopy(found)
    easy["tools"] = easy["tools"][:1]
    easy["messages"] = [easy["messages"][1], {"role": "assistant", "content": "7"}]
    assert drop_probability(easy) == pytest.approx(1 - (1 - 0.7) * (1 - 0.4) * (1 - 0.3) * (1 - 0.2))


def test_dropping_is_by_chance_and_repeats_itself() -> None:
    dialogues = [sound() for _ in range(2000)]
    kept = drop_easy(dialogues, seed=3)
    assert len(kept) / 2000 == pytest.approx(0.6 * 0.7, abs=0.04)
    assert len(drop_easy(dialogues, seed=3)) == len(kept)
