"""Whose items a stage asks, and with which prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from raylign.chat.template import ChatTemplate
from raylign.config.build import build
from raylign.config.schema import Node, node
from raylign.contracts import View
from raylign.errors import DataError
from raylign.recipes.p_genrm.choices import FORM
from raylign.recipes.p_genrm.form import Form, asked_again
from raylign.recipes.p_genrm.items import UserSplit, of_prompt
from raylign.records import Prompt, derive_seed


class Shown(Enum):
    """What a prompt shows beside the history."""

    history = "history"  # nothing
    half = "half"  # every second item, drawn by its id, the stated criteria
    stated = "stated"  # the stated criteria
    teacher = "teacher"  # them, the ratings, and the user's choice


class Asked(View):
    """The items of one split of users. They keep their ids, so that all prompts of an item have the same seeds."""

    @dataclass
    class Config:
        """Whose, and what they show."""

        part: UserSplit = UserSplit.train
        shown: Shown = Shown.history
        form: Node = node(Form, FORM)

    config: Config

    def __init__(self, config: Config, *, tokenizer: ChatTemplate, seed: int) -> None:
        super().__init__(config)
        self._template = tokenizer
        self._form: Form = build(Form, config.form, "view.form")

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """See `View.prompts`. Raises DataError where no user is of the split, and on a prompt without an item."""
        own = [prompt for prompt in prompts if of_prompt(prompt).part is self.config.part]
        if not own:
            there = sorted({str(of_prompt(prompt).part) for prompt in prompts})
            why = f"none of {len(prompts)} items is of a user of part={self.config.part}; there are {', '.join(there)}"
            raise DataError(f"{why}; fix: set view.part to one of them, or data.generator.held_out above 0")
        return [self._shown(prompt) for prompt in own]

    def _shown(self, prompt: Prompt) -> Prompt:
        shown = self.config.shown
        stated = shown is Shown.stated or (shown is Shown.half and derive_seed(0, prompt.id, "stated") % 2 == 0)
        if not stated and shown is not Shown.teacher:
            return prompt
        question = self._form.messages(of_prompt(prompt), stated, shown is Shown.teacher)
        messages = asked_again(prompt, question)
        ids = np.asarray(self._template.prompt_ids(messages, prompt.tools), np.int32)
        bare = {"question": question[-1]["content"]} if "question" in prompt.meta else {}
        return replace(prompt, messages=messages, token_ids=ids, meta={**prompt.meta, **bare})
