"""Rows -> prompts as the policy reads them, equal ones once; and back into rows, for a stage to hand them on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raylign.chat.messages import continues
from raylign.chat.template import chat_template
from raylign.config.schema import DataConfig
from raylign.data.prompt_identity import canonical, prompt_id
from raylign.data.rows import DataRow
from raylign.data.templates import filled
from raylign.records import Message, Prompt

CHUNK = 512  # conversations encoded in one tokenizer call
VERIFIER = "verifier"  # keys of Prompt.meta: what judges the answers
DOUBT = "verifier_doubt"  # why no verifier can judge the prompt
TARGET = "target"  # what is to be imitated
TARGETS = "targets"  # all of it, where rows with the same prompt bring several
OWN = (VERIFIER, DOUBT, TARGET, TARGETS)  # no columns of the row
NO_TOKENS = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The prompts of some rows, in the rows' order, and what became of the rows."""

    prompts: list[Prompt]
    rows: int
    duplicates: int
    too_long: int
    complete: int  # rows around which no template went, since a stage wrote them
    shortest: int  # tokens of the shortest prompt, however long
    longest: int


def render(rows: Iterable[DataRow], template: str, config: DataConfig, tokenizer: Any) -> Rendered:
    """The prompts of all rows, without those that are too long. Raises DataError on a row that makes none."""
    known: dict[str, Prompt] = {}
    targets: dict[str, dict[str, Message | str]] = defaultdict(dict)  # by prompt, what is to be imitated after it
    count = complete = 0
    for row in rows:
        count += 1
        complete += row.complete
        prompt = _prompt(row, template, config)
        known.setdefault(prompt.id, prompt)
        if row.target is not None:
            targets[prompt.id].setdefault(canonical(row.target, row.place), row.target)
    prompts, lengths, chat = list[Prompt](), list[int](), chat_template(tokenizer)
    for group in _batches(known.values()):
        places = [prompt.place for prompt in group]
        tokens = chat.prompts_ids([prompt.messages for prompt in group], group[0].tools, places)
        for prompt, token_ids in zip(group, tokens, strict=True):
            lengths.append(len(token_ids))
            if len(token_ids) <= config.max_prompt_tokens:
                thinks = chat.thinks and not continues(prompt.messages)
                prompts.append(_imitated(replace(prompt, thinks=thinks), token_ids, (*targets[prompt.id].values(),)))
    more = sum(len(answers) - 1 for answers in targets.values() if answers)
    return Rendered(
        prompts=prompts,
        rows=count,
        duplicates=count - len(known) - more,
        too_long=len(known) - len(prompts),
        complete=complete,
        shortest=min(lengths, default=0),
        longest=max(lengths, default=0),
    )


def rows_of(prompt: Prompt) -> list[DataRow]:
    """The rows that make this very prompt, one for each target: what a stage writes to hand it on."""
    own = OWN if _imitable(prompt.meta.get(TARGET)) else (VERIFIER, DOUBT)
    meta = {name: value for name, value in prompt.meta.items() if name not in own}
    targets = (prompt.meta.get(TARGETS) or (prompt.meta[TARGET],)) if TARGET in own else (None,)
    return [
        DataRow(
            messages=prompt.messages,
            place=prompt.place,
            answer=prompt.answer,
            target=target,
            tools=prompt.tools,
            verifier=str(prompt.meta.get(VERIFIER) or ""),
            doubt=str(prompt.meta.get(DOUBT) or ""),
            domain=prompt.domain,
            meta=meta,
            complete=True,
        )
        for target in targets
    ]


def _batches(prompts: Iterable[Prompt]) -> Iterator[list[Prompt]]:
    """Prompts in their order, at most `CHUNK` neighbours at a time, all of which have the same tools."""
    batch: list[Prompt] = []
    tools = ""
    for prompt in prompts:
        its_tools = canonical(prompt.tools, prompt.place) if prompt.tools else ""
        if batch and (len(batch) == CHUNK or tools != its_tools):
            yield batch
            batch = []
        batch.append(prompt)
        tools = its_tools
    if batch:
        yield batch


def _prompt(row: DataRow, template: str, config: DataConfig) -> Prompt:
    """The prompt of a row, not encoded yet, without anything to imitate."""
    messages = row.messages
    if not row.complete:
        messages = filled(messages, template, config.system, row.fields, row.place)
    meta: dict[str, Any] = {**row.meta, VERIFIER: config.verifier or row.verifier}
    asked = _asked(row.messages)
    if asked != _asked(messages):
        meta["question"] = asked  # without the template, for whoever makes new prompts of it
    columns = {name: value for name, value in meta.items() if name != TARGET or not _imitable(value)}
    name = prompt_id(columns, row.place, messages, row.answer, row.domain, row.tools)
    return Prompt(
        id=name,
        messages=messages,
        token_ids=NO_TOKENS,
        answer=row.answer,
        domain=row.domain,
        meta=meta | ({DOUBT: row.doubt} if row.doubt else {}),
        tools=row.tools,
        place=row.place,
    )


def _imitated(prompt: Prompt, token_ids: Sequence[int], targets: tuple[Message | str, ...]) -> Prompt:
    """The prompt as it is encoded, with what is to be imitated after it."""
    meta: Mapping[str, Any] = {TARGET: targets[0]} if targets else {}
    more = {TARGETS: targets} if len(targets) > 1 else {}
    return replace(prompt, token_ids=np.asarray(token_ids, np.int32), meta={**prompt.meta, **meta, **more})


def _asked(messages: Sequence[Message]) -> Any:
    """Content of the last user message, or None."""
    return next((message["content"] for message in reversed(messages) if message["role"] == "user"), None)


def _imitable(value: Any) -> bool:
    """Whether a column named ``target`` is what SFT imitates, and not, say, the number that a puzzle asks for."""
    return isinstance(value, str) or (isinstance(value, Mapping) and "role" in value)
