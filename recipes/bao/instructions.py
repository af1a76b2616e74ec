"""Behaviour instructions: what a teacher is told before it plays, and its pupil is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raylign.contracts import View
from raylign.records import Prompt

BEHAVIOURS = (
    "You solve a task for a user whose time is precious. In every turn think before you act, in this order: (a) "
    "memory: the facts learnt so far, compactly; (b) hypotheses: which the last feedback has left, and which it has "
    "ruled out; (c) budget: turns used, turns left, and what they are for; (d) choice: the action that rules out most "
    "of what is left. Work on the world before you bother the user: submit an answer only when you are sure or the "
    "budget ends, and after a rejected answer learn something new before you submit another."
)


class BehaviourInstructions(View):
    """Puts a system message before every prompt, in front of one that it has."""

    @dataclass
    class Config:
        """What it says: memory and hypotheses (looking back), scheduling and strategic questions (looking ahead)."""

        text: str = BEHAVIOURS

        def __post_init__(self) -> None:
            if not self.text.strip():
                raise ValueError("text is empty: write the instructions, or leave the view out")

    def __init__(self, config: Config, *, tokenizer: Any, seed: int) -> None:
        super().__init__(config)
        self._template = tokenizer

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """See `View.prompts`."""
        return [self._instructed(prompt) for prompt in prompts]

    def _instructed(self, prompt: Prompt) -> Prompt:
        first = prompt.messages[0]
        if first["role"] == "system":
            said = {**first, "content": f"{self.config.text}\n\n{first['content']}"}
            messages = (said, *prompt.messages[1:])
        else:
            messages = ({"role": "system", "content": self.config.text}, *prompt.messages)
        ids = self._template.prompt_ids(messages, prompt.tools)
        return replace(prompt, messages=messages, token_ids=np.asarray(ids, np.int32))
