"""The data work of CM2 that needs no model: rules that drop broken dialogues, and chance that drops easy ones."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raylign.actors.tools.calls import CLOSE, OPEN
from raylign.actors.tools.tool import function_of, violations

Dialogue = Mapping[str, Any]  # {"messages": [...], "tools": [...]}
THINK = ("<think>", "</think>")


def schema_violation(dialogue: Dialogue) -> bool:
    """A call of a tool that is not offered, or with arguments that do not fit its schema."""
    schemas = {function_of(tool)["name"]: function_of(tool) for tool in dialogue.get("tools") or ()}
    return any(
        name not in schemas or bool(violations(schemas[name].get("parameters") or {}, arguments))
        for name, arguments in _calls(dialogue)
        if isinstance(arguments, Mapping)
    )


def role_order(dialogue: Dialogue) -> bool:
    """Roles that do not follow one another as in a dialogue: system?, then user (assistant tool*)* assistant, again."""
    roles = [message["role"] for message in dialogue["messages"]]
    roles = roles[1:] if roles and roles[0] == "system" else roles
    follows = {"": {"user"}, "user": {"assistant"}, "assistant": {"tool", "user"}, "tool": {"tool", "assistant"}}
    before = ["", *roles[:-1]]
    return not roles or roles[-1] != "assistant" or any(b not in follows[a] for a, b in zip(before, roles, strict=True))


def call_response_mismatch(dialogue: Dialogue) -> bool:
    """An assistant message with another number of calls than tool messages that follow it."""
    messages = dialogue["messages"]
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        end = index + 1
        while end < len(messages) and messages[end]["role"] == "tool":
            end += 1
        if len(message.get("tool_calls") or ()) != end - index - 1:
            return True
    return False


def tool_output_in_text(dialogue: Dialogue) -> bool:
    """Calls or results written into what the user sees."""
    marks = (OPEN, CLOSE, "<tool_response>", "</tool_response>")
    return any(mark in str(message.get("content") or "") for message in _assistant(dialogue) for mark in marks)


def invalid_json(dialogue: Dialogue) -> bool:
    """Arguments that are no JSON object."""
    return any(not isinstance(arguments, Mapping) for _, arguments in _calls(dialogue))


def duplicate_tools(dialogue: Dialogue) -> bool:
    """Two tools of one name."""
    names = [function_of(tool)["name"] for tool in dialogue.get("tools") or ()]
    return len(set(names)) < len(names)


def think_tags(dialogue: Dialogue) -> bool:
    """Thinking that is opened and not closed, closed and not opened, or opened twice."""
    for message in _assistant(dialogue):
        text = str(message.get("content") or "")
        counts = [text.count(tag) for tag in THINK]
        if counts not in ([0, 0], [1, 1]) or (counts == [1, 1] and text.index(THINK[0]) > text.index(THINK[1])):
            return True
    return False


def empty_content(dialogue: Dialogue) -> bool:
    """A user or tool message without content, or an assistant message with neither content nor calls."""
    return any(
        not str(message.get("content") or "").strip() and not message.get("tool_calls")
        for message in dialogue["messages"]
    )


RULES: Mapping[str, Callable[[Dialogue], bool]] = {
    rule.__name__: rule
    for rule in (
        role_order,
        call_response_mismatch,
        invalid_json,
        duplicate_tools,
        schema_violation,
        tool_output_in_text,
        think_tags,
        empty_content,
    )
}


@dataclass(slots=True)
class FilterReport:
    """What the filter did. `by_rule` counts every rule that a dropped dialogue broke: its sum may exceed `dropped`."""

    seen: int = 0
    kept: int = 0
    by_rule: Counter[str] = field(default_factory=Counter)

    @property
    def dropped(self) -> int:
        """Dialogues that broke at least one rule."""
        return self.seen - self.kept


def rule_filter(dialogues: Iterable[Dialogue], report: FilterReport) -> Iterator[Dialogue]:
    """The dialogues that break no rule, in order; `report` is filled on the way."""
    for dialogue in dialogues:
        report.seen += 1
        broken = [name for name, breaks in RULES.items() if breaks(dialogue)]
        report.by_rule.update(broken)
        if not broken:
            report.kept += 1
            yield dialogue


# ---------------------------------------------------------------------------------------------------- easy dialogues

EASE: Mapping[str, Mapping[int, float]] = {  # rate r of a metric's value
    "candidate_tools": {1: 0.7, 2: 0.4},
    "selected_tools": {1: 0.4},
    "turns": {1: 0.4},
    "tool_calls": {1: 0.3, 2: 0.3},
    "max_steps": {1: 0.3},
    "assistant_messages": {1: 0.2, 2: 0.3},
}


def ease(dialogue: Dialogue) -> dict[str, int]:
    """The metrics by which a dialogue is easy."""
    calls, steps, now = _calls(dialogue), [], 0
    for message in dialogue["messages"]:
        if message["role"] == "user":
            steps.append(now)
            now = 0
        now += message["role"] == "assistant"
    return {
        "candidate_tools": len(dialogue.get("tools") or ()),
        "selected_tools": len({name for name, _ in calls}),
        "turns": sum(message["role"] == "user" for message in dialogue["messages"]),
        "tool_calls": len(calls),
        "max_steps": max([*steps, now]),
        "assistant_messages": len(_assistant(dialogue)),
    }


def drop_probability(dialogue: Dialogue, rates: Mapping[str, Mapping[int, float]] = EASE) -> float:
    """1 - prod over the metrics of (1 - r)."""
    kept = 1.0
    for name, value in ease(dialogue).items():
        kept *= 1.0 - rates.get(name, {}).get(value, 0.0)
    return 1.0 - kept


def drop_easy(dialogues: Sequence[Dialogue], seed: int) -> list[Dialogue]:
    """The dialogues that chance leaves, in order; each has a draw of its own."""
    draws = np.random.default_rng(seed).random(len(dialogues))
    return [one for one, draw in zip(dialogues, draws, strict=True) if draw >= drop_probability(one)]


def _assistant(dialogue: Dialogue) -> list[Mapping[str, Any]]:
    return [message for message in dialogue["messages"] if message["role"] == "assistant"]


def _calls(dialogue: Dialogue) -> list[tuple[str, Any]]:
    """(tool, arguments) of every call; arguments that are no JSON stay text."""
    found = []
    for message in _assistant(dialogue):
        for call in message.get("tool_calls") or ():
            inner = call.get("function", call)
            arguments = inner.get("arguments") or {}
            if isinstance(arguments, str):
                with contextlib.suppress(ValueError):  # stays the text that it is, which is no object
                    arguments = json.loads(arguments)
            found.append((str(inner.get("name")), arguments))
    return found
