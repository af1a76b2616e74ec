"""Demonstrations -> rows for the learner: one target after the prompt, or all assistant turns of a dialogue.

A dialogue is laid out exactly as a rollout lays it out (`raylign.actors.rollout.chat`): what the assistant says is its
own text and the end token, and between two turns stands what the chat template puts there. So a policy that was trained
on these rows reads in a rollout what it has read in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from raylign.actors.rollout.chat import Chat
from raylign.actors.tools.calls import assistant_text
from raylign.errors import DataError
from raylign.records import Message, Prompt, Sample

DIALOGUE = "demonstration"  # key of Prompt.meta: the messages that follow the prompt, the assistant's first


def demonstrations(prompts: Sequence[Prompt], tokenizer: Any, all_turns: bool = False) -> list[Sample]:
    """Rows of the prompts that bring ``meta["target"]`` or ``meta["demonstration"]``.

    The loss is on the target, or on every assistant turn of the demonstration, end tokens included. all_turns: where
    the prompt itself holds earlier assistant turns, the loss is on them too.

    Raises DataError when no prompt has either.
    """
    rows = []
    for number, prompt in enumerate(prompts):
        following = following_messages(prompt)
        if not following:
            continue
        if all_turns and any(message["role"] == "assistant" for message in prompt.messages):
            rows.append(_from_the_start(prompt, following, number, tokenizer))
        else:
            rows.append(_row(prompt, following, number, tokenizer))
    if not rows:
        raise DataError(
            f"none of {len(prompts)} prompts has a target to imitate; fix: a format with completions (trl, gsm8k), "
            "data.answer_key, or drop the sft stage"
        )
    return rows


def following_messages(prompt: Prompt) -> tuple[Message, ...]:
    """What a prompt's demonstration says after it; empty when it has none."""
    if prompt.meta.get(DIALOGUE):
        return tuple(prompt.meta[DIALOGUE])
    target = prompt.meta.get("target")
    return () if target is None else ({"role": "assistant", "content": str(target)},)


def _from_the_start(prompt: Prompt, following: Sequence[Message], group: int, tokenizer: Any) -> Sample:
    """The row whose prompt ends before the first assistant turn."""
    messages = (*prompt.messages, *following)
    first = next(index for index, message in enumerate(messages) if message["role"] == "assistant")
    tools = {"tools": [dict(tool) for tool in prompt.tools]} if prompt.tools else {}
    head = [dict(message) for message in messages[:first]]
    text = tokenizer.apply_chat_template(head, tokenize=False, add_generation_prompt=True, **tools)
    ids = np.array(tokenizer.encode(text, add_special_tokens=False), np.int32)
    shorter = replace(prompt, messages=messages[:first], token_ids=ids)
    return _row(shorter, messages[first:], group, tokenizer)


def _row(prompt: Prompt, following: Sequence[Message], group: int, tokenizer: Any) -> Sample:
    chat = Chat(tokenizer, prompt.messages, prompt.tools)
    ids, mask = prompt.token_ids.tolist(), [False] * len(prompt.token_ids)
    turns = _turns(prompt, following)
    for number, (text, others) in enumerate(turns):
        said = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        ids += said
        mask += [True] * len(said)
        if number + 1 < len(turns):
            between = chat.answered(text, True, others).tolist()
            ids += between
            mask += [False] * len(between)
    size = len(ids)
    return Sample(
        group=group,
        prompt_length=len(prompt.token_ids),
        token_ids=np.array(ids, np.int32),
        loss_mask=np.array(mask, bool),
        sampler_logprob=np.zeros(size, np.float32),
        policy_version=np.full(size, -1, np.int32),
        advantage=np.zeros(size, np.float32),
        weight=np.ones(size, np.float32),
    )


def _turns(prompt: Prompt, following: Sequence[Message]) -> list[tuple[str, list[Message]]]:
    """Each assistant text and the messages of others after it. Raises DataError where roles do not alternate so."""
    turns: list[tuple[str, list[Message]]] = []
    for message in following:
        if message["role"] == "assistant":
            if turns and not turns[-1][1]:
                raise DataError(f"prompt {prompt.id}: its demonstration has two assistant messages in a row")
            turns.append((assistant_text(message), []))
        elif turns:
            turns[-1][1].append(message)
        else:
            raise DataError(f"prompt {prompt.id}: its demonstration begins with {message['role']}, not the assistant")
    return turns
