"""The conversations and tools of a row, as people write them, in one form, for RL, SFT and preference alike.

A message is a dict: ``role`` (system, user, assistant, tool), ``content`` (a text, "" where a call or reasoning stands
alone), and where there: ``reasoning_content``, ``tool_calls`` (``{"id"?, "type": "function", "function": {"name",
"arguments"}}``, arguments a dict), ``tool_call_id``, ``name``. Further keys stay for the chat template to read.

| written                                              | read as                                            |
|------------------------------------------------------|----------------------------------------------------|
| ``from`` and ``value`` (ShareGPT)                    | role and content; human, gpt, observation, ...     |
| role ``developer``                                   | ``system``: the newer name of the same thing       |
| role ``function``, ``ipython``, ``observation``      | ``tool``                                           |
| content as parts                                     | texts joined, ``thinking`` parts as reasoning      |
| ``reasoning``, ``thinking``                          | ``reasoning_content``                              |
| ``function_call``                                    | one of ``tool_calls``                              |
| arguments as JSON text, calls without ``function``   | a dict, a whole call                               |

Nulls are what parquet writes where a struct lacks a key: they are dropped from objects at every depth, never from lists
and JSON texts. Everything else that cannot be kept (images, a `weight` other than 1, unknown roles) is a `DataError`
with its place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from raylign.data.strict_json import parse
from raylign.errors import DataError
from raylign.records import Message

ROLES = {
    **{name: name for name in ("system", "user", "assistant", "tool")},
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
    "function_call": "assistant",  # of ShareGPT: the value is the call as JSON text
}
TEXT_PARTS = ("text", "input_text", "output_text")
REASONING_PARTS = {"thinking": "thinking", "reasoning": "text"}  # type of a part -> the key of its text
REASONING = ("reasoning_content", "reasoning", "thinking")
MEDIA = ("image", "images", "video", "videos", "audio", "audios")
TRAINED = ("weight", "train", "training", "loss", "prefix")  # what says where the loss is
LISTED = re.compile(r"\s*\[\s*\{")  # how a list of objects begins as text
INT64 = 2**63


def messages_of(value: Any, place: str, what: str = "the prompt") -> tuple[Message, ...]:
    """A column as messages: a text is one user message. `what` names the column's part in errors. Raises DataError."""
    if value is None:
        raise DataError(f"{place}: {what} is null")
    if isinstance(value, str):
        if not value.strip():
            raise DataError(f"{place}: {what} is empty")
        value = from_text(value, f"{place}: {what}")
        if isinstance(value, str):
            return ({"role": "user", "content": value},)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list | tuple) or not value or not all(isinstance(entry, Mapping) for entry in value):
        raise DataError(f"{place}: {what} must be a text or a list of {{role, content}}, not {str(value)[:80]!r}")
    return tuple(message_of(entry, f"{place}: message {number} of {what}") for number, entry in enumerate(value, 1))


def message_of(raw: Mapping[str, Any], place: str) -> Message:
    """One message in the one form. Raises DataError."""
    message = dict(without_nulls(raw))
    if "role" not in message and "from" in message:  # ShareGPT
        message = {"role": message.pop("from"), "content": message.pop("value", None), **message}
    name = message.get("role")
    role = ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise DataError(f"{place} has the role {name!r}; known are {', '.join(ROLES)}")
    _refuse(message, place)
    if name == "function_call":
        message["function_call"] = message.pop("content", None)
    content, thought = _content(message.get("content"), place)
    message = {"role": role, **{key: value for key, value in message.items() if key != "role"}}
    reasoning = _reasoning(message, thought, place)
    calls = _calls(message, place)
    if (reasoning or calls) and role != "assistant":
        raise DataError(f"{place} has the role {name} and {'tool calls' if calls else 'reasoning'} of an assistant")
    if content is None and not (reasoning or calls):
        raise DataError(f"{place} ({name}) has no content")
    message["content"] = content or ""
    return message | ({"reasoning_content": reasoning} if reasoning else {}) | ({"tool_calls": calls} if calls else {})


def answer_of(value: Any, place: str, what: str = "the completion") -> Message | str | None:
    """What the assistant is to say: a text where that is all, else its message. Raises DataError."""
    value = from_text(value, f"{place}: {what}") if isinstance(value, str) else value
    if value is None or isinstance(value, str):
        return value
    messages = messages_of(value, place, what)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        roles = ", ".join(message["role"] for message in messages)
        raise DataError(f"{place}: {what} must be one message of the assistant, not {len(messages)} ({roles})")
    return said(messages[0])


def from_text(text: str, place: str) -> Any:
    """The messages that a text is the JSON of, or the text. Raises DataError on messages in Python's own spelling."""
    if not LISTED.match(text):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if re.match(r"\s*\[\s*\{\s*'(?:role|content|from|value)'\s*:", text):
            raise DataError(f"{place} is a Python list written as text; save it as a list, or as JSON") from None
        if re.match(r'\s*\[\s*\{\s*"role"\s*:', text):
            return parse(text, f"{place} as JSON text")
        return text
    if isinstance(value, list) and all(isinstance(item, Mapping) and {"role", "from"} & item.keys() for item in value):
        return parse(text, f"{place} as JSON text")
    return text


def said(message: Message) -> Message | str:
    """An assistant's message, as a text where it is nothing else."""
    plain = set(message) <= {"role", "content", "name"}
    return str(message["content"]) if plain else message


def tools_of(value: Any, place: str) -> tuple[Mapping[str, Any], ...]:
    """A column of tool schemas, a list or the JSON text of one, each whole and with a name. Raises DataError."""
    value = parse(value, f"{place}: tools as JSON text") if isinstance(value, str) and value.strip() else value
    if not value:
        return ()
    if not isinstance(value, list | tuple):
        raise DataError(f"{place}: tools must be a list of schemas or the JSON text of one, not {str(value)[:80]!r}")
    return tuple(_tool(entry, f"{place}: tool {number}") for number, entry in enumerate(value, 1))


def refuse_media(row: Mapping[str, Any], place: str) -> None:
    """Raises DataError where a row (or a message) brings pictures, films or sound."""
    for name in MEDIA:
        if row.get(name) is not None and row[name] not in ("", [], {}):
            raise DataError(f"{place}: {name!r} holds media, and the model reads text alone; drop it or the row")


def without_nulls(value: Any) -> Any:
    """The value without the null entries of its objects; a list keeps its nulls."""
    if isinstance(value, Mapping):
        return {str(key): without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list | tuple) else value


def _refuse(message: Mapping[str, Any], place: str) -> None:
    refuse_media(message, place)
    if message.get("refusal"):
        raise DataError(f"{place} is a refusal ({str(message['refusal'])[:40]!r}); write it as content or drop the row")
    for name in TRAINED:
        if name in message and (not message[name] if name == "prefix" else message[name] in (1, True)):
            continue
        if name in message:
            raise DataError(
                f"{place} has {name}={message[name]!r}, and no message has a loss of its own; drop it or the row"
            )


def _content(value: Any, place: str) -> tuple[str | None, str]:
    """The text of a content and the reasoning among its parts."""
    if value is None or isinstance(value, str):
        return value, ""
    if not isinstance(value, list | tuple):
        raise DataError(f"{place} has a content that is neither a text nor parts: {str(value)[:60]!r}")
    texts: list[str] = []
    thoughts: list[str] = []
    for part in value:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        key, into = (REASONING_PARTS[kind], thoughts) if kind in REASONING_PARTS else ("text", texts)
        text = part.get(key) if isinstance(part, Mapping) else part
        if kind not in (*TEXT_PARTS, *REASONING_PARTS) or not isinstance(text, str):
            raise DataError(f"{place} has a content part of type {kind!r}; only texts can be read: {str(part)[:60]!r}")
        into.append(text)
    return "".join(texts), "".join(thoughts)


def _reasoning(message: dict[str, Any], thought: str, place: str) -> str:
    thoughts = {thought} if thought else set()
    for name in REASONING:
        text = message.pop(name, "")
        if not isinstance(text, str):
            raise DataError(f"{place} has {name} that is no text: {str(text)[:60]!r}")
        thoughts |= {text} if text else set()
    if len(thoughts) > 1:
        raise DataError(f"{place} gives its reasoning twice and differently ({', '.join(REASONING)}, thinking parts)")
    return thoughts.pop() if thoughts else ""


def _calls(message: dict[str, Any], place: str) -> list[dict[str, Any]]:
    calls, legacy = message.pop("tool_calls", None), message.pop("function_call", None)
    calls = parse(calls, f"{place}: tool_calls as JSON text") if isinstance(calls, str) and calls.strip() else calls
    if calls and legacy:
        raise DataError(f"{place} has both tool_calls and function_call; keep one")
    calls = [legacy] if legacy else (calls or [])
    if not isinstance(calls, list | tuple):
        raise DataError(f"{place}: tool_calls must be a list, not {str(calls)[:60]!r}")
    return [_call(call, f"{place}: call {number}") for number, call in enumerate(calls, 1)]


def _call(raw: Any, place: str) -> dict[str, Any]:
    raw = parse(raw, f"{place} as JSON text") if isinstance(raw, str) else raw
    inner = raw.get("function", raw) if isinstance(raw, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not inner["name"]:
        raise DataError(f"{place} is no function with a name: {str(raw)[:60]!r}")
    unknown = (set(raw) | set(inner)) - {"id", "type", "index", "function", "name", "arguments", "parameters"}
    if raw.get("type", "function") != "function" or unknown:
        why = f"keys {', '.join(sorted(unknown))}" if unknown else f"type {raw['type']!r}"
        raise DataError(f"{place} has {why}; only functions with name and arguments can be read")
    given = inner.get("arguments", inner.get("parameters"))
    if isinstance(given, str):
        given = parse(given, f"{place}: arguments as JSON text") if given.strip() else {}
    if given is not None and not isinstance(given, Mapping):
        raise DataError(f"{place}: arguments must be an object or the JSON text of one, not {str(given)[:60]!r}")
    _refuse_numbers(given, place)
    name = {"id": str(raw["id"])} if raw.get("id") else {}
    return {**name, "type": "function", "function": {"name": inner["name"], "arguments": dict(given or {})}}


def _tool(raw: Any, place: str) -> Mapping[str, Any]:
    tool = parse(raw, f"{place} as JSON text") if isinstance(raw, str) else without_nulls(raw)
    inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not inner["name"]:
        raise DataError(f"{place} is no schema with a name: {str(raw)[:60]!r}")
    if tool.get("type", "function") != "function":
        raise DataError(f"{place} ({inner['name']}) has type {tool['type']!r}; only functions can be offered")
    if "input_schema" in inner and "parameters" not in inner:  # Anthropic's name
        inner = {("parameters" if key == "input_schema" else key): value for key, value in inner.items()}
    if not isinstance(inner.get("parameters", {}), Mapping):
        raise DataError(f"{place} ({inner['name']}): parameters must be an object, a JSON schema")
    _refuse_numbers(inner, place)
    rest = {key: value for key, value in tool.items() if key not in ("type", "function")} if inner is not tool else {}
    inner = {key: value for key, value in inner.items() if key != "type"}
    return {"type": "function", **(rest if "function" in tool else {}), "function": inner}


def _refuse_numbers(value: Any, place: str) -> None:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            _refuse_numbers(inner, place)
    elif isinstance(value, int) and not -INT64 <= value < INT64:
        raise DataError(f"{place} holds the integer {str(value)[:24]}..., beyond 64 bit; write it as text")
    elif isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{place} holds the number {value}, which JSON lacks; write it as text")
