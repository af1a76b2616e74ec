"""The first rows of a run as its stages render them: ids, loss mask, and what the chat template itself would give."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from raylign.chat.template import ChatTemplate
from raylign.config.resolve import ResolvedStage, Run
from raylign.config.schema import Config
from raylign.data.pairs import PairSet, load_pairs
from raylign.data.prompts import PromptSet, load_prompts
from raylign.errors import DataError
from raylign.models.start import start_folder, start_template
from raylign.recipes.stages.demonstrations import following_messages
from raylign.recipes.stages.preference import Preference
from raylign.recipes.stages.sft import Sft
from raylign.records import Message, Prompt

ROWS = 64  # of the data that are read
WIDTH = 116


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rendering:
    """The part of `RunContext` that a stage's `rows` reads."""

    cfg: Config
    tokenizer: Any
    template: ChatTemplate
    prompts: PromptSet


def first_rows(run: Run) -> str:
    """The first row of every stage, readable. Raises DataError on rows that cannot be rendered."""
    cfg = run.config
    template = start_template(cfg, start_folder(cfg))
    data = replace(cfg.data, size=min(cfg.data.size or ROWS, ROWS), holdout=0, eval_path="")
    blocks: dict[str, list[str]] = {}  # what is shown -> the stages that read it
    prompts: PromptSet | None = None
    for stage in run.stages:
        if stage.config.data:
            lines = [f"reads {stage.config.data}"]
        elif issubclass(stage.cls, Preference):
            lines = _pair(
                load_pairs(data, template, stage.config.max_tokens, stage.config.truncation, cfg.seed), template
            )
        else:
            prompts = prompts or load_prompts(data, template, cfg.seed)
            lines = _of_stage(
                stage, _Rendering(cfg=cfg, tokenizer=template.tokenizer, template=template, prompts=prompts)
            )
        blocks.setdefault("\n".join(lines), []).append(stage.name)
    return "\n\n".join(f"{', '.join(names)}: {block}" for block, names in blocks.items())


def _pair(pairs: PairSet, template: ChatTemplate) -> list[str]:
    pair = pairs.train[0]
    start = len(pair.prompt.token_ids)
    chosen, rejected = ([*pair.prompt.token_ids, *answer] for answer in (pair.chosen, pair.rejected))
    return [*_row("chosen of a pair", chosen, start, template), *_row("rejected", rejected, start, template)]


def _of_stage(stage: ResolvedStage, rendering: _Rendering) -> list[str]:
    prompt, template = rendering.prompts.train[0], rendering.template
    if not issubclass(stage.cls, Sft):
        title = f"prompt of {prompt.place or prompt.id}"
        return _row(title, prompt.token_ids, len(prompt.token_ids), template) + _own(prompt, (), template)
    try:
        rows = stage.cls(stage.config, stage.name).rows(rendering)  # type: ignore[arg-type]  # of a context, rows read just this
    except DataError as error:
        return [f"nothing to learn in the first {ROWS} rows ({error})"]
    lines = _row("first row", rows[0].token_ids, rows[0].prompt_length, template, rows[0].loss_mask)
    if stage.cls.rows is not Sft.rows:
        return lines  # of the stage's own making
    shown = next(one for one in rendering.prompts.train if following_messages(one))
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
