"""Rows -> prompts: template, system message, chat template, length limit, duplicates, held-out split."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np

from raylign.chat.template import chat_template
from raylign.config.build import build
from raylign.config.schema import DataConfig
from raylign.contracts import RowGenerator
from raylign.data.holdout import held_out, too_long
from raylign.data.procedural import procedural_rows
from raylign.data.readers import load_rows
from raylign.data.rows import DataRow
from raylign.data.templates import filled
from raylign.errors import DataError
from raylign.records import Message, Prompt, content_id

CHUNK = 512  # conversations encoded in one tokenizer call
DOUBT = "verifier_doubt"  # key of Prompt.meta: why no verifier can judge the prompt
UNJUDGED = (
    "no gold answer to judge by; fix: name its column with data.answer_key, or set a reward of your own "
    "(rewards.correct.fn=...)"
)
TARGETS = "targets"  # key of Prompt.meta: all targets, where rows with the same prompt bring several


class Split(Enum):
    """Training or held-out prompts."""

    holdout = "holdout"
    train = "train"  # to be asked how well fixed instances were learned, not how far that carries


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """Counts of rows kept and dropped, printed at the start of a run.

    Example: ``LoadReport(source="a.jsonl (gsm8k)", rows=10, duplicates=1, too_long=2, train=5, holdout=2)``
    """

    source: str
    rows: int  # read or generated
    duplicates: int  # same messages, answer and target as an earlier row; dropped
    too_long: int  # rendered to more than data.max_prompt_tokens; dropped
    leaked: int = 0  # training rows that stand in data.eval_path too; dropped
    train: int = 0
    holdout: int = 0
    longest: int = 0  # tokens of the longest prompt kept
    whole: int = 0  # tokens of the longest prompt of all
    verifiers: dict[str, int] = field(default_factory=dict)
    implied: bool = False  # the verifiers follow from the data, nobody named one

    def __str__(self) -> str:
        counts = (
            f"{self.source}: {self.rows} rows, dropped {self.duplicates} duplicate, {self.too_long} too long, "
            f"{self.leaked} also in eval; {self.train} train, {self.holdout} held out, "
            f"longest prompt {self.longest} tokens"
        )
        if 2 * self.too_long <= self.rows:
            return counts
        return (
            f"{counts}\nwarning: {self.too_long} of {self.rows} rows are left out as too long; the longest prompt has "
            f"{self.whole} tokens: raise data.max_prompt_tokens, and model.max_context with it"
        )

    @property
    def judged_by(self) -> str:
        """Which verifier judges how many prompts, and why it does: a line of a run whose rewards ask for one."""
        checks = ", ".join(f"{name or 'none'} {count}" for name, count in sorted(self.verifiers.items()))
        why = " (as the answers or the data set's name imply; data.verifier names another)" if self.implied else ""
        return f"verifier: {checks}{why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """Prompts to train on and prompts held out, without a common one."""

    train: tuple[Prompt, ...]
    holdout: tuple[Prompt, ...]
    report: LoadReport

    def first(self, split: Split, count: int) -> tuple[Prompt, ...]:
        """The first `count` prompts of a split, 0: all."""
        return (self.train if split is Split.train else self.holdout)[: count or None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rendered:
    prompts: list[Prompt]
    rows: int
    duplicates: int
    too_long: int
    shortest: int  # tokens of the shortest prompt, however long
    longest: int


def load_prompts(config: DataConfig, tokenizer: Any, seed: int) -> PromptSet:
    """All prompts of a run, rendered once.

    Rows with the same messages and answer have the same id and are one prompt, with the targets of all. The held-out
    prompts are those with the smallest ids, so every seed of a run on a file is measured on the same ones; procedural
    rows depend on `seed`. `data.size` keeps the first rows of a file, or is the number of rows to generate, held-out
    ones included.

    tokenizer: a Hugging Face tokenizer with a chat template, or a `ChatTemplate` with arguments of its own.
    Raises DataError on anything that is wrong with the data.
    """
    source, rows, template = _rows(config, config.path, seed)
    rendered = _render(rows, template, config, tokenizer)
    prompts, leaked = rendered.prompts, 0
    if not prompts:
        raise too_long(source, f"{rendered.rows} rows", rendered.shortest, config)
    if config.eval_path:
        _, rows, template = _rows(config, config.eval_path, seed)
        held = _render(rows, template, config, tokenizer).prompts
        train = _without(prompts, held)
        leaked = len(prompts) - len(train)
    else:
        held = sorted(prompts, key=lambda prompt: prompt.id)[: held_out(config, len(prompts), source, "prompts")]
        train = _without(prompts, held)
    if not train:
        fix = "name another data.eval_path, or leave it out"
        raise DataError(f"{source}: every one of {len(prompts)} prompts is held out too; fix: {fix}")
    report = LoadReport(
        source=source,
        rows=rendered.rows,
        duplicates=rendered.duplicates,
        too_long=rendered.too_long,
        leaked=leaked,
        train=len(train),
        holdout=len(held),
        longest=max(len(prompt.token_ids) for prompt in (*train, *held)),
        whole=rendered.longest,
        verifiers=dict(Counter(str(prompt.meta["verifier"]) for prompt in train)),
        implied=bool(config.path and not config.verifier),
    )
    return PromptSet(train=tuple(train), holdout=tuple(held), report=report)


def refuse_doubts(prompts: PromptSet) -> None:
    """Raises DataError where a prompt that a verifier is to judge says how no verifier could, or names none."""
    every = (*prompts.train, *prompts.holdout)
    doubts = [prompt.meta[DOUBT] for prompt in every if DOUBT in prompt.meta]
    doubts = doubts or [f"{prompt.place}: {UNJUDGED}" for prompt in every if not prompt.meta["verifier"]]
    if doubts:
        more = f" ({len(doubts)} such prompts)" if len(doubts) > 1 else ""
        raise DataError(f"{doubts[0]}{more}")


def _rows(config: DataConfig, path: str, seed: int) -> tuple[str, Iterable[DataRow], str]:
    """Where the rows come from, the rows, and the template that fits them."""
    if config.generator and not path:
        if config.size <= 0 or config.task:
            raise DataError("data.generator needs data.size, the number of rows to make, and no data.task beside it")
        made = build(RowGenerator, config.generator, "data.generator").rows(config.size, seed)
        return str(config.generator["_target_"]), made, config.template
    if config.task and not path:
        rows = procedural_rows(config.task, config.task_args, config.size, seed)
        return f"reasoning-gym {config.task}", rows, config.task_template
    if not path:
        raise DataError("no data: set data.path to a file, data.task to a reasoning-gym data set, or data.generator")
    keys = (config.prompt_key, config.answer_key, config.domain_key)
    kind, rows = load_rows(path, config.format, *keys, verifier=config.verifier)
    every = list(rows)
    if config.size and path == config.path and len(every) > config.size:
        kept = f"the first data.size={config.size} of {len(every)} rows"
        return f"{path} ({kind.value}, {kept})", every[: config.size], config.template
    return f"{path} ({kind.value})", every, config.template


def _render(rows: Iterable[DataRow], template: str, config: DataConfig, tokenizer: Any) -> _Rendered:
    known: dict[str, tuple[DataRow, tuple[Message, ...]]] = {}
    targets: dict[str, dict[str, Message | str]] = defaultdict(dict)  # by prompt, what is to be imitated after it
    count = 0
    for row in rows:
        count += 1
        messages = filled(row.messages, template, config.system, row.fields, row.place)
        tools = (_canonical(row.tools),) if row.tools else ()
        name = content_id(_canonical(messages), _canonical(row.answer), *tools)
        known.setdefault(name, (row, messages))
        if row.target is not None:
            targets[name].setdefault(_canonical(row.target), row.target)
    prompts, lengths, chat = list[Prompt](), list[int](), chat_template(tokenizer)
    for names in _batches({name: _canonical(row.tools) for name, (row, _) in known.items()}):
        group = [known[name] for name in names]
        places = [row.place for row, _ in group]
        tokens = chat.prompts_ids([messages for _, messages in group], group[0][0].tools, places)
        for name, token_ids in zip(names, tokens, strict=True):
            lengths.append(len(token_ids))
            if len(token_ids) <= config.max_prompt_tokens:
                prompt = _prompt(name, *known[name], token_ids, config)
                prompts.append(_imitated(prompt, tuple(targets[name].values())))
    more = sum(len(answers) - 1 for answers in targets.values() if answers)
    duplicates = count - len(known) - more
    return _Rendered(
        prompts=prompts,
        rows=count,
        duplicates=duplicates,
        too_long=len(known) - len(prompts),
        shortest=min(lengths, default=0),
        longest=max(lengths, default=0),
    )


def _batches(tools: Mapping[str, str]) -> Iterator[list[str]]:
    """Names in their order, at most `CHUNK` neighbours at a time, all of which have the same tools."""
    batch: list[str] = []
    for name, its_tools in tools.items():
        if batch and (len(batch) == CHUNK or tools[batch[0]] != its_tools):
            yield batch
            batch = []
        batch.append(name)
    if batch:
        yield batch


def _prompt(
    name: str, row: DataRow, messages: tuple[Message, ...], token_ids: Sequence[int], config: DataConfig
) -> Prompt:
    meta = {**row.meta, "verifier": config.verifier or row.verifier}
    if row.doubt:
        meta[DOUBT] = row.doubt
    asked = _asked(row.messages)
    if asked != _asked(messages):
        meta["question"] = asked  # without the template, for whoever makes new prompts of it
    return Prompt(
        id=name,
        messages=messages,
        token_ids=np.asarray(token_ids, np.int32),
        answer=row.answer,
        domain=row.domain,
        meta=meta,
        tools=row.tools,
        place=row.place,
    )


def _imitated(prompt: Prompt, targets: tuple[Message | str, ...]) -> Prompt:
    """The prompt with what is to be imitated after it."""
    meta = {"target": targets[0]} if targets else {}
    more = {TARGETS: targets} if len(targets) > 1 else {}
    return replace(prompt, meta={**prompt.meta, **meta, **more})


def _asked(messages: Sequence[Message]) -> Any:
    """Content of the last user message, or None."""
    return next((message["content"] for message in reversed(messages) if message["role"] == "user"), None)


def _without(prompts: Sequence[Prompt], others: Sequence[Prompt]) -> list[Prompt]:
    known = {prompt.id for prompt in others}
    return [prompt for prompt in prompts if prompt.id not in known]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
