"""One model's chat template: the only place where a conversation becomes ids.

    messages --hide--> rendered text --encode--> ids of a prompt, which ends where the assistant speaks next
    messages + answer --difference of two renderings--> ids of the answer, the end of its turn included

The assistant's turn ends in what the template puts after it (``<|im_end|>``, ``<|eot_id|>``, ``</s>``; with GLM-4 the
header of whoever speaks next) and generation stops there, and at what the model's generation config names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from raylign.chat.codec import Before, Codec, new_mark
from raylign.chat.messages import ASSISTANT, TOOL, continues, joined, mapped, plain_message, refused_at
from raylign.chat.probes import ANSWERED, QUESTION, Probes, generation_ends
from raylign.chat.thoughts import within_thought
from raylign.errors import DataError, RequestError
from raylign.records import Int32s, Message

Tools = Sequence[Mapping[str, Any]]


class ChatTemplate:
    """Renders and encodes with the chat template of a tokenizer.

    arguments: further arguments of the template (``enable_thinking``). guarded: no message is trusted to spell special
    tokens, the assistant's neither (judges); otherwise the assistant's own may, such as ``<think>``, but never one
    that ends or begins a turn. fresh: where the template renders the past otherwise than it stands in the ids, a turn
    reads a context of its own. Everything raises RequestError on a conversation that the template refuses, and
    DataError without a template.
    """

    def __init__(
        self,
        tokenizer: Any,
        arguments: Mapping[str, Any] | None = None,
        guarded: bool = False,
        fresh: bool = False,
    ) -> None:
        if not tokenizer.chat_template:
            raise DataError(
                "the tokenizer has no chat template; use an instruct model or add chat_template.jinja to it"
            )
        self.tokenizer, self.arguments = tokenizer, dict(arguments or {})
        self.guarded, self.fresh = guarded, fresh
        self.codec = Codec(tokenizer)
        self._probes = Probes(self.codec, lambda messages: self._raw(messages, (), asked=False))

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
        if messages[-1].get("tool_calls"):
            raise RequestError("the conversation ends with a call that no tool has answered, which is not gone on with")
        said = f"{mark}said"
        last = {**messages[-1], "content": f"{messages[-1].get('content') or ''}{said}"}
        text, mark_there, _ = self.turns([*messages[:-1], last], tools, mark).rpartition(said)
        if not mark_there:
            raise RequestError("the chat template hides the open message of the assistant that ends the prompt")
        return text

    def text_of(self, ids: Sequence[int] | Int32s) -> str:
        """What was sampled, as text: without pad tokens and ends of turn, other special tokens included."""
        return self.codec.decode(ids, self._silent)

    def bytes_of(self, number: int) -> bytes:
        """What one id writes into `text_of`; nothing for pad tokens and ends of turn."""
        return b"" if number in self._silent else self.codec.bytes_of(number)

    @cached_property
    def thinks(self) -> bool:
        """Whether what the assistant says begins within a thought, whose tag the template writes (DeepSeek-R1)."""
        try:
            return within_thought(self.render([QUESTION], (), new_mark()))
        except RequestError:
            return False

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
        for following in ((), (then,), (ANSWERED if calls else QUESTION,)):
            try:
                text = self.turns([*whole[:-1], last, *[message for message in following if message]], tools, mark)
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
        by_template = self._probes.ends()
        eos = self.tokenizer.eos_token_id
        return frozenset(by_template | set(generation_ends(self.tokenizer)) | (set() if eos is None else {int(eos)}))

    @cached_property
    def _silent(self) -> frozenset[int]:
        pad = self.tokenizer.pad_token_id
        return self.ends | (frozenset() if pad is None else {int(pad)})

    # ------------------------------------------------------------------------------------- text from outside

    @cached_property
    def _boundaries(self) -> frozenset[int]:
        return self.ends | self._probes.boundaries()

    @cached_property
    def _around_tools(self) -> frozenset[int]:
        return self._probes.around_tools()

    @cached_property
    def _reasoning_key(self) -> str:
        return self._probes.reasoning_key()

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

    # --------------------------------------------------------------------------------------------- rendering

    def turns(self, messages: Sequence[Message], tools: Tools, mark: str, asked: bool = False) -> str:
        """The text of these messages, each a whole turn. asked: the assistant's next turn is opened after them."""
        plain = []
        for message in map(plain_message, messages):
            role = str(message["role"])
            if message.get("reasoning_content") and self._reasoning_key:
                message[self._reasoning_key] = message.pop("reasoning_content")
            plain.append(mapped(message, partial(self._hide, role=role, mark=mark)))
        schemas = [mapped(dict(tool), partial(self._hide, role="system", mark=mark)) for tool in tools]
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


_HIDDEN = {
    "tool_calls": "the chat template does not render tool_calls; choose a model whose template does",
    "reasoning_content": "the chat template does not render reasoning_content; write the thoughts into the content",
}


def chat_template(tokenizer: Any) -> ChatTemplate:
    """The template of a tokenizer without further arguments, or the template itself where it is one already."""
    return tokenizer if isinstance(tokenizer, ChatTemplate) else ChatTemplate(tokenizer)


def same_ids(one: ChatTemplate, other: ChatTemplate) -> bool:
    """Whether two templates give the same ids, and know the same ends of a turn."""
    first, second = one.tokenizer, other.tokenizer
    return bool(
        first.chat_template == second.chat_template
        and one.ends == other.ends
        and (first.is_fast and second.is_fast)
        and first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()
    )
