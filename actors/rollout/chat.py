"""What the engine must read between two of the policy's turns: the chat template's own text, found by difference.

Nothing that was sampled is ever encoded again. The template renders the conversation with a mark in place of what the
policy wrote; what follows the mark, up to the next generation prompt, is encoded and appended to the ids as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raylign.chat.codec import Before, new_mark
from raylign.chat.messages import ASSISTANT, TOOL, joined
from raylign.chat.template import ChatTemplate
from raylign.errors import RequestError
from raylign.records import Int32s, Message


class Chat:
    """The messages of one conversation, grown turn by turn.

    `mismatches` counts turns at which the template would have rendered the past otherwise than it stands in the ids
    (templates that drop earlier reasoning do so): the ids stay as they were sampled from.
    """

    def __init__(
        self, template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self._template, self._tools = template, tuple(tools)
        self.messages: tuple[Message, ...] = tuple(messages)
        self.mismatches = 0
        self._mark = new_mark()
        self._past: str | None = None  # the conversation's text as it stands in the ids

    def fork(self) -> Chat:
        """Another conversation with the same past."""
        twin = Chat(self._template, self.messages, self._tools)
        twin._mark, twin._past, twin.mismatches = self._mark, self._past, self.mismatches
        return twin

    def answered(self, text: str, end: int | None, following: Sequence[Message]) -> Int32s:
        """Ids between the policy's turn and its next one. [C]

        text: what it wrote. end: the id of the token that ended its turn, where it sampled one; it stands in the ids
        already, so the template's own is left out. following: the messages that it reads next. Raises RequestError when
        the template refuses the conversation or hides what the policy wrote.
        """
        said = {"role": ASSISTANT, "content": text}
        try:
            return self.said(said, text, end, following)
        except RequestError:
            if not following or following[0]["role"] != TOOL:
                raise
        # A template that wants the calls of an answer as such; what the policy wrote stands in the ids already.
        called, answers = _called(following)
        ids = self.said(called, text, end, answers)
        self._past = self._text(self.messages)
        return ids

    def said(self, message: Message, text: str, end: int | None, following: Sequence[Message]) -> Int32s:
        """As `answered`, for a turn that is given as a message, perhaps with calls or reasoning; text: as it stands."""
        calls, codec = message.get("tool_calls"), self._template.codec
        expected = self._text(self.messages) if self._past is None else self._past
        if calls:
            marked = [{**call, "function": {**call.get("function", call), "name": self._spoken}} for call in calls]
            _, suffix = self._around([*self.messages, {**message, "tool_calls": marked}], following)
            suffix = self._from_the_end(suffix)
        else:
            past, suffix = self._around(joined(self.messages, {**message, "content": self._spoken}), following)
            self.mismatches += past != expected
        ids = codec.encode(suffix, self._mark, Before.TEXT)
        own = self._own_end(ids, end)
        spelled = "" if end is None else codec.spelling.get(end, "")
        rest = suffix.partition(spelled)[2] if own else suffix
        self.messages = (*joined(self.messages, message), *following)
        self._past = f"{expected}{text}{spelled}{codec.show(rest, self._mark)}"
        return np.asarray(ids[own:], np.int32)

    def anew(self) -> Int32s | None:
        """Ids of a context of its own for the next turn, where one is wanted (`ChatTemplate.fresh`) and the template
        renders the past otherwise than it stands in the ids; else None. [C]
        """
        if not self._template.fresh:
            return None
        past = self._text(self.messages)
        if past == self._past:
            return None
        self._past = past
        return np.asarray(self._template.prompt_ids(self.messages, self._tools), np.int32)

    def _text(self, messages: Sequence[Message]) -> str:
        """The conversation up to the next generation prompt."""
        return self._template.codec.show(self._template.render(messages, self._tools, self._mark), self._mark)

    @property
    def _spoken(self) -> str:
        return f"{self._mark}says"

    def _around(self, messages: Sequence[Message], following: Sequence[Message]) -> tuple[str, str]:
        """What the template renders before and after the policy's last turn; the latter still has hidden spellings."""
        text = self._template.turns([*messages, *following], self._tools, self._mark, asked=True)
        past, mark, suffix = text.rpartition(self._spoken)
        if not mark:
            raise RequestError("the chat template hides what the policy wrote, so its turns cannot follow one another")
        return self._template.codec.show(past, self._mark), suffix

    def _own_end(self, ids: Sequence[int], end: int | None) -> int:
        """How many of these ids are the template's spelling of the end that the policy has sampled already."""
        first = next((i for i, number in enumerate(ids) if number in self._template.codec.spelling), None)
        return first + 1 if end is not None and first is not None and ids[first] == end else 0

    def _from_the_end(self, suffix: str) -> str:
        """What follows a call, from the end of the turn on."""
        codec = self._template.codec
        starts = [at for number in self._template.ends if (at := suffix.find(codec.spelling.get(number, "\0"))) >= 0]
        if not starts:
            raise RequestError("the chat template does not end the turn of a call before the tool's answer")
        return suffix[min(starts) :]


def _called(following: Sequence[Message]) -> tuple[Message, list[Message]]:
    """A turn with one call for each answer of a tool that follows, and those messages with the calls' ids."""
    messages, calls = list[Message](), list[dict[str, Any]]()
    for message in following:
        number = f"{len(calls):09d}"  # nine letters or digits, as Mistral's templates want them
        if message["role"] == TOOL:
            calls.append({"id": number, "type": "function", "function": {"name": "call", "arguments": {}}})
        messages.append({**message, "tool_call_id": number} if message["role"] == TOOL else message)
    return {"role": ASSISTANT, "content": "", "tool_calls": calls}, messages
