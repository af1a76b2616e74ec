"""What a policy wrote -> thought, visible reply and tool calls. The forms: Hermes/Qwen blocks, and bare JSON.

<think>...</think> text <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>
{"name": "add", "arguments": {"a": 1}}          a message that is nothing but one call, or a list of them
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"
BLOCK = re.compile(rf"{OPEN}(.*?)(?:{CLOSE}|(?={OPEN})|\Z)", re.DOTALL)
DEEPEST = 64  # levels of arguments
SHOWN = 200  # letters of a faulty call in messages


class CallFault(StrEnum):
    """Why a call cannot be carried out."""

    UNPARSABLE = "unparsable"  # no JSON object with a name, or arguments that are no object
    UNKNOWN = "unknown_tool"
    SCHEMA = "schema"
    TOO_MANY = "too_many"  # more parallel calls than are allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that could be read. Example: ``ToolCall(name="add", arguments={"a": 1, "b": 2})``"""

    name: str
    arguments: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Tool and arguments, the same for every order of keys."""
        return canonical(self.name, self.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class BadCall:
    """A call that could not. Example: ``BadCall(fault=CallFault.UNPARSABLE, text='{"name": ', why="no JSON")``"""

    fault: CallFault
    text: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantTurn:
    """One message of a policy in its parts. `calls` are in the order in which they were written."""

    thinking: str
    reply: str  # what a user would see
    calls: tuple[ToolCall | BadCall, ...] = ()

    @property
    def good(self) -> tuple[ToolCall, ...]:
        """Calls that could be read."""
        return tuple(call for call in self.calls if isinstance(call, ToolCall))

    @property
    def bad(self) -> tuple[BadCall, ...]:
        """Calls that could not."""
        return tuple(call for call in self.calls if isinstance(call, BadCall))


def read_message(text: str, thought: tuple[str, str] = ("<think>", "</think>")) -> AssistantTurn:
    """Split a message into thought, reply and calls. Nothing in the thought is a call; an unclosed thought takes the
    whole message.

    thought: the tags around it; the opening one may be missing, as chat templates write it. A visible part that is
    JSON of calls and nothing else counts as calls without tags.
    """
    thinking, visible = _split(text, *thought)
    blocks = [match.group(1) for match in BLOCK.finditer(visible)]
    if blocks:
        calls = tuple(read_call(block) for block in blocks)
        return AssistantTurn(thinking=thinking, reply=BLOCK.sub("", visible).strip(), calls=calls)
    bare_calls = _bare(visible.strip())
    return AssistantTurn(thinking=thinking, reply="" if bare_calls else visible.strip(), calls=bare_calls)


def read_call(text: str) -> ToolCall | BadCall:
    """The call in one block."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _bad(text, f"no JSON ({error})")
    return _call_of(raw, text)


def write_call(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as `read_message` reads it."""
    return f"{OPEN}{json.dumps({'name': name, 'arguments': dict(arguments)}, ensure_ascii=False)}{CLOSE}"


def canonical(name: str, arguments: Any) -> str:
    """One text for all ways to write the same call."""
    return json.dumps([name, arguments], sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _split(text: str, open_tag: str, close_tag: str) -> tuple[str, str]:
    before, tag, after = text.rpartition(close_tag) if close_tag else ("", "", text)
    if tag:
        return before.removeprefix(open_tag).strip(), after
    if open_tag and text.lstrip().startswith(open_tag):
        return text.lstrip().removeprefix(open_tag).strip(), ""
    return "", text


def _bare(text: str) -> tuple[ToolCall | BadCall, ...]:
    if not text.startswith(("{", "[")):
        return ()
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        # Text that begins like a call and names one is a broken call; anything else is a reply with a brace in front.
        return (_bad(text, "no JSON"),) if '"name"' in text and '"arguments"' in text else ()
    entries = raw if isinstance(raw, list) else [raw]
    if not entries or not all(isinstance(entry, Mapping) and "name" in entry for entry in entries):
        return ()
    return tuple(_call_of(entry, text if _too_deep(entry) else json.dumps(entry)) for entry in entries)


def _call_of(raw: Any, text: str) -> ToolCall | BadCall:
    if not isinstance(raw, Mapping) or not isinstance(raw.get("name"), str) or not raw["name"]:
        return _bad(text, "no object with a name")
    given = (raw[name] for name in ("arguments", "parameters") if raw.get(name) is not None)
    arguments: Any = next(given, {})  # null, too, is no arguments
    if isinstance(arguments, str):  # some models write the arguments as JSON within JSON
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return _bad(text, "arguments that are no JSON")
        arguments = {} if arguments is None else arguments
    if not isinstance(arguments, Mapping):
        return _bad(text, "arguments that are no object")
    if _too_deep(arguments):
        return _bad(text, f"arguments nested more than {DEEPEST} deep")
    return ToolCall(name=raw["name"], arguments=dict(arguments))


def _too_deep(value: Any) -> bool:
    """Whether what later recurses over the value (schemas, JSON again) could run out of stack."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level, depth = [item for items in inner for item in items], depth + 1
    return bool(level)


def _bad(text: str, why: str) -> BadCall:
    return BadCall(fault=CallFault.UNPARSABLE, text=text.strip()[:SHOWN], why=why)
