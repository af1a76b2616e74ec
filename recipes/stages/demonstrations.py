"""Demonstrations -> rows for the learner: one target after the prompt, or all assistant turns of a dialogue.

A dialogue is laid out exactly as a rollout lays it out (`raylign.actors.rollout.chat`): what the assistant says is what
the chat template renders of its message, the end of the turn included, and between two turns stands what the template
puts there. So a policy that was trained on these rows reads in a rollout what it has read in training. A message that
was sampled may bring its ids (`SAMPLED`): they are laid out as they are where they spell the message in the present
vocabulary, and the row of a rollout is then that rollout, id by id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from raylign.actors.rollout.chat import Chat
from raylign.chat.messages import ASSISTANT, continues, joined, message_of, refused_at
from raylign.chat.template import ChatTemplate, chat_template
from raylign.data.rendered import TARGETS
from raylign.errors import DataError
from raylign.records import Message, Prompt, Row

DIALOGUE = "demonstration"  # key of Prompt.meta: the messages that follow the prompt, the assistant's first
SAMPLED = "token_ids"  # key of an assistant's message: the ids that were sampled as it, an end of turn included


def demonstrations(prompts: Sequence[Prompt], tokenizer: Any, all_turns: bool = False, stage: str = "") -> list[Row]:
    """Rows of the prompts that bring ``meta["target"]`` or ``meta["demonstration"]``.

    The loss is on the target, or on every assistant turn of the demonstration, end tokens included. all_turns: where
    the prompt itself holds earlier assistant turns, the loss is on them too. tokenizer: a Hugging Face tokenizer with a
    chat template, or a `ChatTemplate`. stage: the key of who imitates, for messages.

    Raises DataError when no prompt has either, and with the place of a row that the template cannot render.
    """
    rows, template = list[Row](), chat_template(tokenizer)
    for prompt in prompts:
        with refused_at(_place(prompt)):
            for following in _demonstrated(prompt):
                if all_turns and any(message["role"] == ASSISTANT for message in prompt.messages):
                    rows += _from_the_start(prompt, following, len(rows), template)
                else:
                    rows += _rows(prompt, following, len(rows), template)
    if not rows:
        where, without = (f" in {stage}", f" (~{stage})") if stage else ("", "")
        raise DataError(
            f"none of {len(prompts)} training prompts has a target to imitate{where}; fix: name the column that holds "
            f"it (data.format=columns data.prompt_key=COLUMN data.answer_key=COLUMN), or leave the stage out{without}"
        )
    return rows


def brings_target(prompt: Prompt) -> bool:
    """Whether there is something to imitate."""
    return bool(_demonstrated(prompt))


def _demonstrated(prompt: Prompt) -> list[tuple[Message, ...]]:
    """The messages that follow a prompt, in each form that data rows have for them."""
    if prompt.meta.get(TARGETS) and not prompt.meta.get(DIALOGUE):
        return [(message_of(target),) for target in prompt.meta[TARGETS]]
    return [following] if (following := following_messages(prompt)) else []


def following_messages(prompt: Prompt) -> tuple[Message, ...]:
    """The messages of a prompt's demonstration after the prompt; empty when it has none."""
    if prompt.meta.get(DIALOGUE):
        return tuple(prompt.meta[DIALOGUE])
    target = prompt.meta.get("target")
    if target is None:
        return ()
    return tuple(target) if isinstance(target, list | tuple) else (message_of(target),)


def _from_the_start(prompt: Prompt, following: Sequence[Message], group: int, template: ChatTemplate) -> list[Row]:
    """The rows whose prompt ends before the first assistant turn."""
    messages = (*prompt.messages, *following)
    if continues(prompt.messages):
        messages = (*joined(prompt.messages, following[0]), *following[1:])
    first = next(index for index, message in enumerate(messages) if message["role"] == ASSISTANT)
    ids = np.array(template.prompt_ids(messages[:first], prompt.tools), np.int32)
    shorter = replace(prompt, messages=messages[:first], token_ids=ids)
    return _rows(shorter, messages[first:], group, template)


def _rows(prompt: Prompt, following: Sequence[Message], group: int, template: ChatTemplate) -> list[Row]:
    """One row, or with `rollout.past=fresh` one for each context."""
    chat, rows = Chat(template, prompt.messages, prompt.tools), list[Row]()
    ids, mask, start = prompt.token_ids.tolist(), [False] * len(prompt.token_ids), len(prompt.token_ids)
    turns = _turns(prompt, following)
    for number, (message, others) in enumerate(turns):
        last = number + 1 == len(turns)
        said = _sampled(message, template)
        plain = {name: value for name, value in message.items() if name != SAMPLED}
        if said is None:
            said = template.answer_ids(chat.messages, plain, prompt.tools, None if last else others[0])
        ids += said
        mask += [True] * len(said)
        if last:
            break
        between = _between(chat, plain, said, others, template)
        anew = chat.anew()
        if anew is not None:
            rows.append(_sample(group + len(rows), ids, mask, start))
            ids, mask, start = anew.tolist(), [False] * len(anew), len(anew)
        else:
            ids += between
            mask += [False] * len(between)
    return [*rows, _sample(group + len(rows), ids, mask, start)]


def _sampled(message: Message, template: ChatTemplate) -> list[int] | None:
    """The ids that a message was sampled as; None without any, or where they spell it in another vocabulary only."""
    ids = message.get(SAMPLED)
    if not ids or message.get("tool_calls") or message.get("reasoning_content"):
        return None
    known = all(0 <= number < len(template.tokenizer) for number in ids)
    return list(map(int, ids)) if known and template.text_of(ids) == message.get("content") else None


def _between(
    chat: Chat, message: Message, said: Sequence[int], others: Sequence[Message], template: ChatTemplate
) -> list[int]:
    """Ids between a turn and the next one; a turn that ran into its limit has no end of its own."""
    end = said[-1] if said[-1] in template.ends else None
    if message.get("tool_calls") or message.get("reasoning_content"):
        return chat.said(message, template.text_of(said), end, others).tolist()
    return chat.answered(template.text_of(said), end, others).tolist()


def _sample(group: int, ids: list[int], mask: list[bool], prompt_length: int) -> Row:
    return Row(
        group=group,
        prompt_length=prompt_length,
        token_ids=np.array(ids, np.int32),
        loss_mask=np.array(mask, bool),
        sampler_logprob=np.zeros(len(ids), np.float32),
        policy_version=np.full(len(ids), -1, np.int32),
        advantage=np.zeros(len(ids), np.float32),
        weight=np.ones(len(ids), np.float32),
    )


def _turns(prompt: Prompt, following: Sequence[Message]) -> list[tuple[Message, list[Message]]]:
    """Each assistant message and the messages of others after it. Raises DataError where roles do not alternate so."""
    turns: list[tuple[Message, list[Message]]] = []
    for message in following:
        if message["role"] == ASSISTANT:
            if turns and not turns[-1][1]:
                raise DataError(f"{_place(prompt)}: its demonstration has two assistant messages in a row")
            turns.append((message, []))
        elif turns:
            turns[-1][1].append(message)
        else:
            raise DataError(f"{_place(prompt)}: its demonstration begins with {message['role']}, not the assistant")
    return turns


def _place(prompt: Prompt) -> str:
    return prompt.place or f"prompt {prompt.id}"
