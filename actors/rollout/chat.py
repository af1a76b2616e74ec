"""What the engine must read between two of the policy's turns: the chat template's own text, found by difference.

Nothing that was sampled is ever encoded again. The template renders the conversation with a mark in place of what the
policy wrote; what follows the mark, up to the next generation prompt, is encoded and appended to the ids as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raylign.errors import RequestError
from raylign.records import Int32s, Message

MARK = "\x02raylign\x03"


class Chat:
    """The messages of one conversation, grown turn by turn.

    `mismatches` counts turns at which the template would have rendered the past otherwise than it stands in the ids
    (templates that drop earlier reasoning do so): the ids stay as they were sampled from.
    """

    def __init__(self, tokenizer: Any, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> None:
        self._tokenizer, self._tools = tokenizer, tuple(tools)
        self.messages: tuple[Message, ...] = tuple(messages)
        self.mismatches = 0
        self._past: str | None = None  # the conversation's text as it stands in the ids

    def fork(self) -> Chat:
        """Another conversation with the same past."""
        twin = Chat(self._tokenizer, self.messages, self._tools)
        twin._past, twin.mismatches = self._past, self.mismatches
        return twin

    def answered(self, text: str, ended: bool, following: Sequence[Message]) -> Int32s:
        """Ids between the policy's turn and its next one. [C]

        text: what it wrote. ended: whether it sampled the end-of-turn token itself. following: the messages that it
        reads next. Raises RequestError when the template hides what the policy wrote.
        """
        expected = self._render(self.messages) if self._past is None else self._past
        past, mark, suffix = self._render([*self.messages, _assistant(MARK), *following]).partition(MARK)
        if not mark:
            raise RequestError("the chat template hides what the policy wrote, so its turns cannot follow one another")
        self.mismatches += past != expected
        end = self._tokenizer.eos_token or ""
        sampled = text
        if ended and suffix.startswith(end):
            suffix, sampled = suffix[len(end) :], text + end
        self.messages = (*self.messages, _assistant(text), *following)
        self._past = expected + sampled + suffix
        return np.asarray(self._tokenizer.encode(suffix, add_special_tokens=False), np.int32)

    def _render(self, messages: Sequence[Message]) -> str:
        """The conversation up to the next generation prompt."""
        tools = {"tools": [dict(tool) for tool in self._tools]} if self._tools else {}
        plain = [dict(message) for message in messages]
        return str(self._tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True, **tools))


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
