"""Messages as chat templates expect them, and as text from outside must be guarded in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from raylign.errors import DataError, RequestError
from raylign.records import Message

ASSISTANT, TOOL = "assistant", "tool"


@contextmanager
def refused_at(place: str) -> Iterator[None]:
    """A conversation that cannot be rendered is an error of the row that it came from. Raises DataError."""
    try:
        yield
    except RequestError as error:
        raise DataError(f"{place}: {error}") from error


def message_of(said: Message | str) -> Message:
    """What the assistant says, as a message."""
    return said if isinstance(said, Mapping) else {"role": ASSISTANT, "content": str(said)}


def plain_message(message: Message) -> dict[str, Any]:
    """A copy whose content is a text and whose calls have ``function`` with arguments as an object."""
    plain = {key: value for key, value in message.items() if value is not None}
    plain["content"] = plain.get("content", "")
    if plain.get("tool_calls"):
        plain["tool_calls"] = [_call(call) for call in plain["tool_calls"]]
    else:
        plain.pop("tool_calls", None)
    return plain


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function", call))
    arguments = function.get("arguments") or {}
    try:
        function["arguments"] = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError as error:
        raise RequestError(f"the arguments of the call of {function.get('name')} are no JSON: {error}") from error
    outer = {key: value for key, value in call.items() if key == "id" and value is not None}
    return outer | {"type": "function", "function": function}


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """The value with every text in it changed, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {mapped(key, change): mapped(entry, change) for key, entry in value.items()}
    return [mapped(entry, change) for entry in value] if isinstance(value, list | tuple) else value


def continues(messages: Sequence[Message]) -> bool:
    """Whether the last message is the beginning of what the assistant is to say."""
    return bool(messages) and messages[-1]["role"] == ASSISTANT


def joined(messages: Sequence[Message], said: Message) -> tuple[Message, ...]:
    """The conversation after the assistant has said something, an open message at its end continued.

    Raises RequestError where an open message goes on with anything but text.
    """
    if not continues(messages):
        return (*messages, said)
    extra = [name for name in ("tool_calls", "reasoning_content") if said.get(name)]
    if extra:
        raise RequestError(f"the prompt ends with an open message of the assistant, which {extra[0]} cannot continue")
    last = {**messages[-1], "content": f"{messages[-1].get('content') or ''}{said.get('content') or ''}"}
    return (*messages[:-1], last)
