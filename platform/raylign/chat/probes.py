"""Properties of a chat template, measured by rendering made-up messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from raylign.chat.codec import Before, Codec, new_mark
from raylign.chat.messages import ASSISTANT, TOOL
from raylign.errors import RequestError
from raylign.records import Message

QUESTION: Message = {"role": "user", "content": "a"}
CALL = {"id": "000000000", "type": "function", "function": {"name": "f", "arguments": {}}}
CALLING: Message = {"role": ASSISTANT, "content": "", "tool_calls": [CALL]}
ANSWERED: Message = {"role": TOOL, "content": "c", "tool_call_id": CALL["id"], "name": "f"}
REASONING = ("reasoning_content", "reasoning", "thinking")  # names under which templates take it


class Probes:
    """Asks a template, given as a function from messages to text that raises RequestError."""

    def __init__(self, codec: Codec, rendered: Callable[[Sequence[Message]], str]) -> None:
        self._codec, self._rendered = codec, rendered

    def ends(self) -> set[int]:
        """Tokens that the template puts after an assistant's text: its own end of turn, or else the next header's."""
        mark = new_mark()
        said = {"role": ASSISTANT, "content": mark}
        _, shown, after = self._text(QUESTION, said).rpartition(mark)
        end = self._tokens(after)[:1] if shown else []
        if end:
            return set(end)
        _, shown, after = self._text(QUESTION, said, QUESTION).rpartition(mark)
        return {*(self._tokens(after)[:1] if shown else []), *self._tokens(self._tool_gap())[:1]}

    def boundaries(self) -> frozenset[int]:
        """Tokens with which turns begin and end, marked special by the tokenizer or not."""
        return frozenset(self._tokens(self._text(QUESTION, {"role": ASSISTANT, "content": "b"}, QUESTION)))

    def around_tools(self) -> frozenset[int]:
        """Tokens between which the template puts the answer of a tool."""
        gap = self._tool_gap() or self._text(QUESTION, CALLING, ANSWERED).rpartition("c")[2]
        return frozenset(self._tokens(gap))

    def reasoning_key(self) -> str:
        """The name under which the template takes a message's reasoning; empty: it takes none."""
        mark = new_mark()
        said = {"role": ASSISTANT, "content": "b"}
        return next((name for name in REASONING if mark in self._text(QUESTION, {**said, name: mark})), "")

    def _tool_gap(self) -> str:
        """What a tool's answer adds to a conversation."""
        short, full = self._text(QUESTION, CALLING), self._text(QUESTION, CALLING, ANSWERED)
        return full[len(short) :] if short and full.startswith(short) else ""

    def _tokens(self, text: str) -> list[int]:
        """Special and added tokens of a text, in order."""
        return [number for number in self._codec.encode(text, after=Before.TEXT) if number in self._codec.spelling]

    def _text(self, *messages: Message) -> str:
        """The rendered messages; empty where the template refuses them."""
        try:
            return self._rendered(messages)
        except RequestError:
            return ""


def generation_ends(tokenizer: Any) -> list[int]:
    """``eos_token_id`` of the generation config that stands beside the tokenizer's files."""
    source = str(tokenizer.name_or_path)
    file = Path(source) / "generation_config.json"
    if not file.exists():
        if not source or file.parent.is_dir():
            return []
        from transformers.utils import cached_file

        options = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
        cached = cached_file(source, file.name, **options)
        if cached is None:
            return []
        file = Path(cached)
    ends = json.loads(file.read_text()).get("eos_token_id")
    return [] if ends is None else [int(end) for end in (ends if isinstance(ends, list) else [ends])]
