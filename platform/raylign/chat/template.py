"""One model's chat template: the only place where a conversation becomes ids.

    messages --hide--> rendered text --encode--> ids of a prompt, which ends where the assistant speaks next
    messages + answer --difference of two renderings--> ids of the answer, the end of its turn included

The assistant's turn ends in what the template puts after it (``<|im_end|>``, ``<|eot_id|>``, ``</s>``; with GLM-4 the
header of whoever speaks next) and generation stops there, and at what the model's generation config names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from raylign.chat.codec import Before, Codec, new_mark
from raylign.chat.messages import ASSISTANT, TOOL, continues, joined, mapped, plain_message, refused_at
from raylign.errors import DataError, RequestError
from raylign.records import Message

Tools = Sequence[Mapping[str, Any]]
CALL = {"id": "000000000", "type": "function", "function": {"name": "f", "arguments": {}}}
ANSWERED = {"role": TOOL, "content": "c", "tool_call_id": CALL["id"], "name": "f"}
PROBE = ({"role": "user", "content": "a"},)


class ChatTemplate:
    """Renders and encodes with the chat template of a tokenizer.

    arguments: further arguments of the template (``enable_thinking``). guarded: no message is trusted to spell special
    tokens, the assistant's neither (judges); otherwise the assistant's own may, such as ``<think>``, but never one
    that ends or begins a turn. Everything raises RequestError on a conversation that the template refuses, and
    DataError without a template.
    """

    def __init__(self, tokenizer: Any, arguments: Mapping[str, Any] | None = None, guarded: bool = False) -> None:
        if not tokenizer.chat_template:
            raise DataError(
                "the tokenizer has no chat template; use an instruct model or add chat_template.jinja to it"
            )
        self.tokenizer, self.arguments, self.guarded = tokenizer, dict(arguments or {}), guarded
        self.codec = Codec(tokenizer)

    # ---------------------------------------------------------------------------------------------- contexts

    def prompt_ids(self, messages: Sequence[Message], tools: Tools = ()) -> list[int]:
        """Ids up to where the assistant speaks next; an assistant's message at the end is left open."""
        mark = new_mark()
        return self.codec.encode(self.render(messages, tools, mark), mark)

    def prompts_ids(self, conversations: Sequence[Sequence[Message]], tools: Tools, places: Sequence[str]) -> Any:
        """Ids of several prompts with the same tools. Raises DataError with the place of one that cannot be."""
        mark, texts = new_mark(), []
        for messages, place in zip(conversations, places, strict=True):
            with refused_at(place):
                self.check(messages, tools)
                texts.append(self.render(messages, tools, mark))
        return self.codec.encode_all(texts, mark)

    def render(self, messages: Sequence[Message], tools: Tools, mark: str) -> str:
        """The text up to where the assistant speaks next, an assistant's message at the end left open.

        Spellings of special tokens in text from outside are hidden behind the mark; see `Codec.show`.
        """
        if not continues(messages):
            return self.turns(messages, tools, mark, asked=True)
        said = f"{mark}said"
        last = {**messages[-1], "content": f"{messages[-1].get('content') or ''}{said}"}
        text, found, _ = self.turns([*messages[:-1], last], tools, mark).rpartition(said)
        if not found:
            raise RequestError("the chat template hides the open message of the assistant that ends the prompt")
        return text

    def text_of(self, ids: Sequence[int]) -> str:
        """What was sampled, as text: without pad tokens and ends of turn, other special tokens included."""
        return self.codec.decode(ids, self._silent)

    # ----------------------------------------------------------------------------------------------- answers

    def answer_ids(
        self, messages: Sequence[Message], answer: Message, tools: Tools = (), then: Message | None = None
    ) -> list[int]:
        """Ids of an answer after `prompt_ids`, up to and including the end of the turn.

        then: who speaks next, where the end depends on it. Raises RequestError where the template would not render the
        answer after this prompt, or hides a part of it.
        """
        mark = new_mark()
        whole = joined(messages, answer)
        self._check_shown(whole, len(whole) - 1, tools, mark)
        head = self.render(messages, tools, mark)
        full = self.turns(whole, tools, mark)
        if continues(messages):
            rest = self._hide(str(answer.get("content") or ""), ASSISTANT, mark)
        elif full.startswith(head):
            rest = full[len(head) :]
        else:
            rest = self._after_header(head, full, answer, mark)
        ids = self.codec.encode(rest, mark, self.codec.before(head))
        for index, number in enumerate(ids):
            if number in self.ends:
                return ids[: index + 1]
        return [*ids, *self._end_after(whole, tools, then)]

    def _after_header(self, head: str, full: str, answer: Message, mark: str) -> str:
        """The answer's text where the template renders what came before it otherwise than it does in a prompt.

        It is what follows the prompt's last header (``[/INST]``). A prompt that opens more than the answer is rendered
        with (``<think>``) is gone on with by a text that begins so.
        """
        start = max((head.rfind(self.codec.spelling[number]) for number in self._boundaries), default=-1)
        header = head[start:] if start >= 0 else head
        length = next((n for n in range(len(header), 0, -1) if header[:n] in full), 0)
        opening = header[length:]
        if not opening:
            return full[full.rindex(header) + length :]
        text = self._hide(str(answer.get("content") or ""), ASSISTANT, mark).lstrip()
        plain = not answer.get("tool_calls") and not answer.get("reasoning_content")
        if plain and opening.strip() and text.startswith(opening.strip()):
            return text.removeprefix(opening.strip()).removeprefix(opening[len(opening.rstrip()) :])
        raise RequestError(
            f"the chat template opens every answer with {self.codec.show(opening, mark)!r}, and this one goes on "
            "otherwise; begin the answer with it, give reasoning_content, or set model.template_args"
        )

    def _end_after(self, whole: Sequence[Message], tools: Tools, then: Message | None) -> list[int]:
        """Ids between the last text of the assistant and the end of its turn, that included."""
        calls, mark = whole[-1].get("tool_calls"), new_mark()
        said = f"{mark}said"
        last = whole[-1] if calls else {"role": ASSISTANT, "content": said}
        for following in ((), (then,), (ANSWERED if calls else PROBE[0],)):
            try:
                text = self.turns([*whole[:-1], last, *[one for one in following if one]], tools, mark)
                before = self.turns(whole, tools, mark) if calls else text.rpartition(said)[0] + said
            except RequestError:
                continue
            ids = self.codec.encode(text[len(before) :], mark, Before.TEXT) if text.startswith(before) else []
            for index, number in enumerate(ids):
                if number in self.ends:
                    return ids[: index + 1]
        if self.tokenizer.eos_token_id is None:
            raise RequestError("neither the chat template nor the tokenizer says how a turn ends")
        return [int(self.tokenizer.eos_token_id)]

    # ------------------------------------------------------------------------------------------ ends of turn

    @cached_property
    def ends(self) -> frozenset[int]:
        """Ids that end a turn of the assistant: by the template, the generation config and the tokenizer."""
        own = self._template_ends()
        eos = self.tokenizer.eos_token_id
        return frozenset(own | set(_generation_ends(self.tokenizer)) | (set() if eos is None else {int(eos)}))

    def _template_ends(self) -> set[int]:
        mark = new_mark()
        said = {"role": ASSISTANT, "content": mark}
        for following in ((), (PROBE[0],)):
            _, shown, after = self._probe([*PROBE, said, *following]).rpartition(mark)
            if not shown:
                continue
            end = next((i for i in self.codec.encode(after, after=Before.TEXT) if i in self.codec.spelling), None)
            if end is not None:
                break
        else:
            return set()
        if not following:
            return {end}
        # The turn ends in the next role's header, and after a call that is another one.
        calling = [*PROBE, {"role": ASSISTANT, "content": "", "tool_calls": [CALL]}]
        short, full = self._probe(calling), self._probe([*calling, ANSWERED])
        gap = self.codec.encode(full[len(short) :], after=Before.TEXT) if short and full.startswith(short) else []
        return {end, *[i for i in gap if i in self.codec.spelling][:1]}

    @cached_property
    def _silent(self) -> frozenset[int]:
        pad = self.tokenizer.pad_token_id
        return self.ends | (frozenset() if pad is None else {int(pad)})

    # ------------------------------------------------------------------------------------- text from outside

    @cached_property
    def _boundaries(self) -> frozenset[int]:
        """Tokens with which the template begins and ends turns, marked special by the tokenizer or not."""
        text = self._probe([*PROBE, {"role": ASSISTANT, "content": "b"}, *PROBE])
        return self.ends | {i for i in self.codec.encode(text) if i in self.codec.spelling}

    @cached_property
    def _around_tools(self) -> frozenset[int]:
        """Tokens between which the template puts the answer of a tool."""
        calling = [*PROBE, {"role": ASSISTANT, "content": "", "tool_calls": [CALL]}]
        short, full = self._probe(calling), self._probe([*calling, ANSWERED])
        after = full[len(short) :] if full.startswith(short) else full.rpartition("c")[2]
        return frozenset(i for i in self.codec.encode(after) if i in self.codec.spelling)

    def _reserved(self, role: str) -> frozenset[int]:
        """Tokens that a text of this role may not become."""
        if role == ASSISTANT and not self.guarded:
            return self._boundaries
        others = self.codec.special | self._boundaries
        return others | self._around_tools if role == TOOL else others

    def _hide(self, text: str, role: str, mark: str) -> str:
        return self.codec.hide(text, self._reserved(role), mark)

    # ------------------------------------------------------------------------------------------------ checks

    def check(self, messages: Sequence[Message], tools: Tools) -> None:
        """Raises RequestError where the template leaves out tools, calls or reasoning that it was given."""
        mark = new_mark()
        if tools and self.render(messages, tools, mark) == self.render(messages, (), mark):
            raise RequestError("the chat template does not render tools; choose a model whose template does")
        for index, message in enumerate(messages):
            if message.get("tool_calls"):
                self._check_shown(messages[: index + 1], index, tools, mark)
            elif message.get("reasoning_content") and not self._reasoning_key:
                raise RequestError(_HIDDEN["reasoning_content"])

    def _check_shown(self, messages: Sequence[Message], index: int, tools: Tools, mark: str) -> None:
        for name, why in _HIDDEN.items():
            if not messages[index].get(name):
                continue
            without = {key: value for key, value in messages[index].items() if key != name}
            shown = self.turns(messages, tools, mark)
            if shown == self.turns([*messages[:index], without, *messages[index + 1 :]], tools, mark):
                raise RequestError(why)

    @cached_property
    def _reasoning_key(self) -> str:
        """The name under which the template takes a message's reasoning; empty: it takes none."""
        mark = new_mark()
        for name in ("reasoning_content", "reasoning", "thinking"):
            if mark in self._probe([*PROBE, {"role": ASSISTANT, "content": "b", name: mark}]):
                return name
        return ""

    # --------------------------------------------------------------------------------------------- rendering

    def turns(self, messages: Sequence[Message], tools: Tools, mark: str, asked: bool = False) -> str:
        """The text of these messages, each a whole turn. asked: the assistant's next turn is opened after them."""
        plain = []
        for message in map(plain_message, messages):
            role = str(message["role"])
            if message.get("reasoning_content") and self._reasoning_key:
                message[self._reasoning_key] = message.pop("reasoning_content")
            plain.append(mapped(message, lambda text, role=role: self._hide(text, role, mark)))
        schemas = [mapped(dict(tool), lambda text: self._hide(text, "system", mark)) for tool in tools]
        return self._raw(plain, schemas, asked)

    def _raw(self, messages: Sequence[Message], tools: Tools, asked: bool) -> str:
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [dict(message) for message in messages],
                    tools=[dict(tool) for tool in tools] or None,
                    tokenize=False,
                    add_generation_prompt=asked,
                    **self.arguments,
                )
            )
        except Exception as error:  # a template raises whatever its author chose
            raise RequestError(f"the chat template refuses the conversation: {error}") from error

    def _probe(self, messages: Sequence[Message]) -> str:
        """What the template makes of some made-up messages; empty where it refuses them."""
        try:
            return self._raw(messages, (), asked=False)
        except RequestError:
            return ""


_HIDDEN = {
    "tool_calls": "the chat template does not render tool_calls; choose a model whose template does",
    "reasoning_content": "the chat template does not render reasoning_content; write the thoughts into the content",
}


def chat_template(tokenizer: Any) -> ChatTemplate:
    """The template of a tokenizer without further arguments, or the template itself where it is one already."""
    return tokenizer if isinstance(tokenizer, ChatTemplate) else ChatTemplate(tokenizer)


def _generation_ends(tokenizer: Any) -> list[int]:
    """``eos_token_id`` of the generation config that stands beside the tokenizer's files."""
    file = Path(str(tokenizer.name_or_path)) / "generation_config.json"
    if not file.exists():
        from transformers.utils import cached_file

        if file.parent.is_dir() or not str(tokenizer.name_or_path):
            return []
        options = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
        cached = cached_file(str(tokenizer.name_or_path), "generation_config.json", **options)
        if cached is None:
            return []
        file = Path(cached)
    ends = json.loads(file.read_text()).get("eos_token_id")
    return [] if ends is None else [int(end) for end in (ends if isinstance(ends, list) else [ends])]
