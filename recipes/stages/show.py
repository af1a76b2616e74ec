"""The first rows of a run as its stages render them: ids, loss mask, and what the chat template itself would give."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from raylign.chat.template import ChatTemplate
from raylign.config.resolve import ResolvedStage
from raylign.data.pairs import PairSet
from raylign.errors import DataError
from raylign.recipes.stages.demonstrations import following_messages
from raylign.recipes.stages.on_pairs import OnPairs
from raylign.recipes.stages.reading import Reading
from raylign.recipes.stages.sft import Sft
from raylign.records import Message, Prompt

WIDTH = 116


def first_rows(reading: Reading) -> str:
    """The first row of every stage, readable. Raises DataError on rows that cannot be rendered."""
    blocks: dict[str, list[str]] = {}  # what is shown -> the stages that read it
    for stage in reading.run.stages:
        if stage.config.data:
            lines = [f"reads {stage.config.data}"]
        elif issubclass(stage.cls, OnPairs):
            model = reading.start_of(stage)
            pairs = stage.cls.pairs(stage.config, reading, reading.run.config.data, model)
            lines = _pair(pairs, reading.template_of(model), scored=not stage.cls.of_policy)
        else:
            lines = _of_stage(stage, reading)
        blocks.setdefault("\n".join(lines), []).append(stage.name)
    return "\n\n".join(f"{', '.join(names)}: {block}" for block, names in blocks.items())


def _pair(pairs: PairSet, template: ChatTemplate, scored: bool) -> list[str]:
    """scored: what is learned is a number behind the last token."""
    pair, lines = pairs.train[0], []
    for title, answer in (("chosen of a pair", pair.chosen), ("rejected", pair.rejected)):
        ids = [*pair.prompt.token_ids, *answer]
        lines += _row(title, ids, len(ids) - 1 if scored else len(pair.prompt.token_ids), template)
    return lines


def _of_stage(stage: ResolvedStage, reading: Reading) -> list[str]:
    read = reading.of(stage)
    prompt, template = read.prompts.train[0], read.template
    if not issubclass(stage.cls, Sft):
        title = f"prompt of {prompt.place or prompt.id}"
        return _row(title, prompt.token_ids, len(prompt.token_ids), template) + _own(prompt, (), template)
    try:
        rows = reading.demonstrated.get(stage.name) or stage.cls(stage.config, stage.name).rows(read)
    except DataError as error:
        return [f"nothing to learn ({error})"]
    lines = _row("first row", rows[0].token_ids, rows[0].prompt_length, template, rows[0].loss_mask)
    if stage.cls.rows is not Sft.rows:
        return lines  # of the stage's own making
    shown = next(one for one in read.prompts.train if following_messages(one))
    return lines + _own(shown, following_messages(shown), template)


def _row(
    title: str, ids: Sequence[int] | np.ndarray, start: int, template: ChatTemplate, mask: Any = None
) -> list[str]:
    """A title, then runs of tokens that are read or learned, each as id and text."""
    learned = np.arange(len(ids)) >= start if mask is None else np.asarray(mask, bool)
    count = f"{len(ids)} tokens, {int(learned.sum())} learned"
    lines = [f"{title}: {count}"]
    cuts = [0, *(np.flatnonzero(np.diff(learned)) + 1).tolist(), len(ids)]
    for begin, end in pairwise(cuts):
        words = "  ".join(f"{int(i)} {template.codec.decode([int(i)])!r}" for i in ids[begin:end])
        label = "learned" if learned[begin] else "read   "
        lines += textwrap.wrap(words, WIDTH, initial_indent=f"  {label}  ", subsequent_indent=" " * 11)
    return [*lines, f"  text     {template.codec.decode([int(i) for i in ids])!r}"]


def _own(prompt: Prompt, following: Sequence[Message], template: ChatTemplate) -> list[str]:
    """What the tokenizer's ``apply_chat_template`` gives for the same conversation."""
    messages = [dict(message) for message in (*prompt.messages, *following)]
    opened = (
        {"continue_final_message": True} if messages[-1]["role"] == "assistant" else {"add_generation_prompt": True}
    )
    options = {} if following else opened
    text = template.tokenizer.apply_chat_template(
        messages, tools=[dict(tool) for tool in prompt.tools] or None, tokenize=False, **options, **template.arguments
    )
    return [f"  template {text!r}"]
