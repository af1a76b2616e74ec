"""A prompt and what was sampled after it as one conversation, and its ids under the template of another model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from raylign.chat.codec import new_mark
from raylign.chat.messages import ASSISTANT, continues, joined
from raylign.chat.template import ChatTemplate
from raylign.chat.thoughts import answers_of, without_thoughts
from raylign.errors import DataError
from raylign.models.facts import model_folder
from raylign.models.scoring import Reads, manner_of
from raylign.models.tokenizer import load_tokenizer
from raylign.records import Message, Prompt, Trajectory

PROBE: tuple[Message, ...] = ({"role": "user", "content": "a"}, {"role": ASSISTANT, "content": "b"})


class Spelled(NamedTuple):
    """A conversation as ids, in two parts: rows that have the first in common compute it once."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class Rendering:
    """How a reward model reads a conversation."""

    template: ChatTemplate
    reads: Reads

    def ids(self, prompt: Prompt, trajectory: Trajectory) -> Spelled:
        """Up to the token whose state is scored. Raises RequestError, DataError on what cannot be rendered."""
        messages, said = conversation(prompt, trajectory)
        self.template.check(messages, prompt.tools)
        if self.reads is Reads.end_of_turn:
            asked = self.template.prompt_ids(messages, prompt.tools)
            return Spelled(asked, self.template.answer_ids(messages, said, prompt.tools))
        mark = new_mark()
        text = self.template.turns(joined(messages, said), prompt.tools, mark)
        ids = self.template.codec.encode(text, mark)
        return Spelled(ids[:1], ids[1:])


def rendering(model: str, reads: Reads | None, template_args: Mapping[str, Any], remote_code: bool) -> Rendering:
    """As the settings say, else as the folder does. Raises DataError where neither says which token is scored, and a
    template ends otherwise than a turn does; ValueError, OSError on a folder that cannot be read.
    """
    folder = model_folder(model)
    told = manner_of(folder)
    arguments = dict(template_args or (told.template_args if told else {}))
    path = str(folder) if Path(model).expanduser().is_dir() else model
    template = ChatTemplate(load_tokenizer(path, remote_code), arguments)
    ends = _ends_with_turn(template)
    reads = reads or (told.reads if told else None) or (Reads.end_of_turn if ends else None)
    if reads is None:
        behind = template.turns(PROBE, (), "").rpartition("b")[2]
        raise DataError(
            f"{model} does not say which state its head reads, and its template ends a conversation with {behind!r}; "
            "fix: set reads=end_of_turn for that of the token that ends the turn, or reads=rendered for the last one, "
            "as TRL trains"
        )
    return Rendering(template, reads)


def _ends_with_turn(template: ChatTemplate) -> bool:
    """Whether the last token of a rendered conversation is the one that ends the assistant's turn."""
    mark = new_mark()
    return template.codec.encode(template.turns(PROBE, (), mark), mark)[-1] in template.ends


def conversation(prompt: Prompt, trajectory: Trajectory) -> tuple[tuple[Message, ...], Message]:
    """What was said before the last call of the policy, and what it said there; what came after is not looked at.

    Of what was sampled the answers alone: reward models judge what a user reads, not what was thought before it.
    Raises DataError on a trajectory that is no one conversation.
    """
    if not trajectory.calls:
        raise DataError(f"prompt {prompt.key}: a trajectory without a call says nothing that could be scored")
    past = trajectory.calls[:-1]
    messages: tuple[Message, ...] = prompt.messages
    if continues(messages):  # a thought that it has opened goes on in the first call
        opening = without_thoughts(str(messages[-1].get("content") or ""))
        messages = (*messages[:-1], {**messages[-1], "content": opening})
    if len(trajectory.roles) > 1 or any(not call.observed for call in past):
        raise DataError(
            f"prompt {prompt.key}: its {len(trajectory.calls)} calls are no one conversation, for nothing is said "
            "between them; fix: a strategy of one call, or episodes in an environment"
        )
    *before, answer = answers_of(prompt, trajectory)
    for call, said in zip(past, before, strict=True):
        messages = (*joined(messages, {"role": ASSISTANT, "content": said}), *call.observed)
    return messages, {"role": ASSISTANT, "content": answer}
