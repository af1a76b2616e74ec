"""Prompts <-> problems: what the policy is asked is rendered anew, by the same template and tokenizer as the seed's."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from raylign.chat.template import chat_template
from raylign.errors import DataError
from raylign.recipes.composition_rl.problem import Problem, Reason, Rejected, seed_problem
from raylign.records import Prompt

OF_THE_SEED = ("target", "question", "solution", "solution_answer")  # what is said of the seed alone


def problem_of(prompt: Prompt) -> Problem:
    """The problem that a seed prompt asks: the text of its last user message, template taken off."""
    question = str(prompt.meta.get("question") or prompt.messages[_user(prompt)]["content"])
    notes = {name: prompt.meta[name] for name in OF_THE_SEED if name in prompt.meta}
    answer = "" if prompt.answer is None else str(prompt.answer)
    return seed_problem(question, answer, prompt.id, prompt.domain, **notes)


def prompt_of(chain: Problem, last: Prompt, tokenizer: Any, limit: int, visit: int) -> Prompt | Rejected:
    """The chain as a prompt for the policy, under the last seed's system message, template, verifier and domain.

    limit: tokens that the prompt may have, 0: any number; longer ones are rejected (TOO_LONG).
    """
    meta = {name: value for name, value in last.meta.items() if name not in OF_THE_SEED}
    meta["composition"] = {
        "depth": chain.depth,
        "seeds": list(chain.seeds),
        "links": [asdict(link) for link in chain.links],
    }
    if chain.depth == 1:
        return replace(last, meta={**last.meta, **meta}, visit=visit)
    messages = list(last.messages)
    index = _user(last)
    question, content = str(last.meta.get("question", "")), str(messages[index]["content"])
    content = content.replace(question, chain.text, 1) if question and question in content else chain.text
    messages[index] = {**messages[index], "content": content}
    token_ids = chat_template(tokenizer).prompt_ids(messages, last.tools)
    if limit and len(token_ids) > limit:
        return Rejected(reason=Reason.TOO_LONG, detail=f"{len(token_ids)} tokens")
    return replace(
        last, id=chain.id, messages=tuple(messages), token_ids=np.asarray(token_ids, np.int32), meta=meta, visit=visit
    )


def _user(prompt: Prompt) -> int:
    users = [index for index, message in enumerate(prompt.messages) if message["role"] == "user"]
    if not users:
        raise DataError(f"prompt {prompt.id} has no user message to compose")
    return users[-1]
