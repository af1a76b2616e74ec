"""The question of a prompt, its last user message, and the same conversation with another in its place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raylign.chat.template import ChatTemplate
from raylign.errors import DataError
from raylign.records import Message, Prompt


def question_of(prompt: Prompt) -> str:
    """The question, without `data.template` around it."""
    return str(prompt.meta.get("question") or last_user(prompt))


def conversation_of(prompt: Prompt) -> str:
    """All that an answer answers, for those who judge it: the question, with what stands before it (a system message,
    earlier turns) where anything does, each under the name of its role.
    """
    last = _user(prompt)
    before = [message for message in prompt.messages[:last] if message.get("content")]
    if not before:
        return question_of(prompt)
    said = [f"{message['role']}: {message['content']}" for message in before]
    return "\n\n".join([*said, f"user: {question_of(prompt)}"])


def last_user(prompt: Prompt) -> str:
    """Text of the last user message, `data.template` included. Raises DataError where there is none."""
    return str(prompt.messages[_user(prompt)]["content"])


def asked_instead(prompt: Prompt, question: str) -> tuple[Message, ...]:
    """The messages with another question, in the template that stands around the prompt's own."""
    old, content = str(prompt.meta.get("question", "")), last_user(prompt)
    return said_instead(prompt, content.replace(old, question, 1) if old and old in content else question)


def said_instead(prompt: Prompt, content: str) -> tuple[Message, ...]:
    """The messages with another text as the last user message. Raises DataError where there is none."""
    index = _user(prompt)
    return (*prompt.messages[:index], {**prompt.messages[index], "content": content}, *prompt.messages[index + 1 :])


def reworded(prompt: Prompt, content: str, template: ChatTemplate) -> Prompt:
    """The prompt with another text around its question, for views: whoever asks for the question still gets it bare.

    Raises DataError where there is no user message.
    """
    messages = said_instead(prompt, content)
    ids = np.asarray(template.prompt_ids(messages, prompt.tools), np.int32)
    return replace(prompt, messages=messages, token_ids=ids, meta={**prompt.meta, "question": question_of(prompt)})


def _user(prompt: Prompt) -> int:
    users = [index for index, message in enumerate(prompt.messages) if message["role"] == "user"]
    if not users:
        raise DataError(f"prompt {prompt.id} has no user message, so that nothing is asked in it")
    return users[-1]
