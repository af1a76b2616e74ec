"""Preference pairs: files with TRL's columns, or a generator -> token ids, cut to length, with a held-out part.

| columns                  | values                                    | the prompt is                              |
|--------------------------|-------------------------------------------|--------------------------------------------|
| prompt, chosen, rejected | texts, or messages (prompt: either)       | ``prompt``                                 |
| chosen, rejected         | whole conversations as messages           | all but the last message, which both share |
| chosen, rejected         | whole dialogues as texts (hh-rlhf)        | all up to the last ``Assistant:``, shared  |

Where ``prompt`` comes with whole conversations (UltraFeedback), the conversations count. Prompt and answer are what the
chat template renders, encoded apart, so that the boundary between them is the same for both answers, for the policy and
for the reference: all score the ids made here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from raylign.chat.messages import message_of, refused_at
from raylign.chat.template import ChatTemplate, chat_template
from raylign.config.build import build
from raylign.config.schema import DataConfig
from raylign.contracts import PairGenerator
from raylign.data.files import RawRow, read_rows
from raylign.data.messages import from_text, messages_of, said
from raylign.data.readers import tools_column, with_system
from raylign.data.templates import filled
from raylign.errors import DataError
from raylign.records import Int32s, Message, Prompt, Sample, content_id

TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}


class Truncation(Enum):
    """What becomes of a pair that is longer than allowed.

    `left`: the prompt keeps its end, as HyPO's recipes have it; an answer that is still too long loses its own end.
    `drop`: the pair is left out and counted.
    """

    left = "left"
    drop = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairText:
    """One pair before any tokenizer.

    Example: ``PairText(messages=({"role": "user", "content": "Hi"},), chosen="Hello!", rejected="No.", place="a:1")``
    """

    messages: tuple[Message, ...]
    chosen: Message | str  # a text: one that the assistant says
    rejected: Message | str
    place: str
    tools: tuple[Mapping[str, Any], ...] = ()  # schemas that the chat template renders
    fields: Mapping[str, Any] = field(default_factory=dict)  # what `data.template` may name


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A prompt and its two answers as token ids; each answer ends as the template ends a turn unless it was cut.

    Example: ``Pair(prompt=prompt, chosen=np.array([7, 8, 1]), rejected=np.array([9, 1]))``
    """

    prompt: Prompt
    chosen: Int32s  # [C]
    rejected: Int32s  # [R]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReport:
    """What became of the rows, for the start of a run."""

    source: str
    rows: int
    unpaired: int  # the two conversations differ before the last answer; dropped
    same: int  # both answers are equal, or the pair was seen before; dropped
    too_long: int  # truncation=drop
    cut: int  # pairs of which a prompt or an answer was cut
    leaked: int  # training pairs whose prompt is held out too; dropped
    train: int
    holdout: int
    longest: int  # tokens of prompt and answer

    def __str__(self) -> str:
        return (
            f"{self.source}: {self.rows} rows, dropped {self.unpaired} without a common prompt, {self.same} equal or "
            f"repeated, {self.too_long} too long, {self.leaked} with a held-out prompt; {self.cut} cut; {self.train} "
            f"train, {self.holdout} held out, longest {self.longest} tokens"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSet:
    """Pairs to train on and pairs held out; no prompt is in both."""

    train: tuple[Pair, ...]
    holdout: tuple[Pair, ...]
    report: PairReport


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    data: DataConfig
    template: ChatTemplate
    max_tokens: int
    truncation: Truncation


@dataclass(slots=True)
class _Counts:
    rows: int = 0
    unpaired: int = 0
    same: int = 0
    too_long: int = 0
    cut: int = 0


def load_pairs(config: DataConfig, tokenizer: Any, max_tokens: int, truncation: Truncation, seed: int) -> PairSet:
    """All pairs of a run, tokenised once: those of `data.path`, else those that `data.generator` makes.

    `data.eval_path`, or else `data.holdout` pairs with the smallest prompt ids, are held out, the same for every seed.
    `data.size` keeps the first rows of a file. Prompt and answer together may have `max_tokens`; where they have more
    the prompt is cut to `data.max_prompt_tokens`; see `Truncation`. Raises DataError.
    """
    counts = _Counts()
    rules = _Rules(data=config, template=chat_template(tokenizer), max_tokens=max_tokens, truncation=truncation)
    source = config.path or str(config.generator.get("_target_", ""))
    pairs = _tokenize(_texts(config, config.path, seed, counts), rules, counts)
    if config.eval_path:
        # What is dropped among the held-out rows is not reported: the counts are about what is trained on.
        held = _tokenize(_texts(config, config.eval_path, seed, _Counts()), rules, _Counts())
    else:
        held = sorted(pairs, key=lambda pair: pair.prompt.id)[: config.holdout]
    taken = {pair.prompt.id for pair in held}
    train = [pair for pair in pairs if pair.prompt.id not in taken]
    leaked = len(pairs) - len(train) - (0 if config.eval_path else len(held))
    if not train:
        raise DataError(f"{source}: {len(pairs)} pairs and data.holdout={config.holdout} leave none to train on")
    longest = max(len(p.prompt.token_ids) + max(len(p.chosen), len(p.rejected)) for p in (*train, *held))
    report = PairReport(
        source=source,
        rows=counts.rows,
        unpaired=counts.unpaired,
        same=counts.same,
        too_long=counts.too_long,
        cut=counts.cut,
        leaked=leaked,
        train=len(train),
        holdout=len(held),
        longest=longest,
    )
    return PairSet(train=tuple(train), holdout=tuple(held), report=report)


def read_pairs(path: str | Path, prompt_key: str = "") -> Iterator[PairText | None]:
    """The pairs of a file, None for a row whose two conversations differ before the last answer.

    Raises DataError on a file or a row that cannot be read.
    """
    for place, row in read_rows(path):
        yield pair_text(row, place, prompt_key)


def pair_text(row: RawRow, place: str, prompt_key: str = "") -> PairText | None:
    """One row with TRL's columns; None when its conversations have no prompt in common. Raises DataError.

    prompt_key: the column that holds the prompt, which must be there; empty: ``prompt``, if there.
    """
    chosen, rejected, prompt = row.get("chosen"), row.get("rejected"), row.get(prompt_key or "prompt")
    tools = tools_column(row, place)
    if chosen is None or rejected is None:
        raise DataError(f"{place}: a pair needs columns chosen and rejected; columns present: {', '.join(row)}")
    if prompt_key and prompt is None:
        why = "is null" if prompt_key in row else "is missing"
        raise DataError(f"{place}: the column data.prompt_key={prompt_key} {why}; columns present: {', '.join(row)}")
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise DataError(f"{place}: chosen and rejected are not of one kind")
    chosen, rejected = (
        from_text(value, f"{place}: {name}") if isinstance(value, str) else value
        for name, value in (("chosen", chosen), ("rejected", rejected))
    )
    if isinstance(chosen, str) and prompt is not None and not (TURN.match(chosen) and TURN.match(str(rejected))):
        shared: tuple[Message, ...] = _asked(prompt, place)
        answers: tuple[Message | str, Message | str] = (chosen, str(rejected))
    else:
        first, second = _conversation(chosen, place, "chosen"), _conversation(rejected, place, "rejected")
        if first[:-1] != second[:-1]:
            return None
        shared = first[:-1] if prompt is None else _beginning(_asked(prompt, place), first[:-1], place)
        answers = (said(first[-1]), said(second[-1]))
    if not shared:
        raise DataError(f"{place}: there is no prompt: neither a column nor a message before the answer")
    shared = with_system(shared, row, place)
    return PairText(messages=shared, chosen=answers[0], rejected=answers[1], place=place, tools=tools, fields=row)


def _conversation(value: Any, place: str, name: str) -> tuple[Message, ...]:
    messages = _dialogue(value, place) if isinstance(value, str) else messages_of(value, place, name)
    if messages[-1]["role"] != "assistant":
        raise DataError(f"{place}: {name} does not end with an answer of the assistant")
    return messages


def _asked(prompt: Any, place: str) -> tuple[Message, ...]:
    """The prompt's messages; a dialogue as text may end with ``Assistant:``, where the answers go on."""
    if not isinstance(prompt, str) or not TURN.match(prompt):
        return messages_of(prompt, place)
    messages = _dialogue(prompt, place)
    return messages[:-1] if messages[-1] == {"role": "assistant", "content": ""} else messages


def _beginning(prompt: tuple[Message, ...], shared: tuple[Message, ...], place: str) -> tuple[Message, ...]:
    """What the answers follow: the conversations' own beginning, which repeats the prompt or goes on from it."""
    if not shared or shared[0]["role"] == "assistant":
        return (*prompt, *shared)
    contents = [str(message["content"]).strip() for message in shared]
    if all(str(message["content"]).strip() in contents for message in prompt):
        return shared
    raise DataError(f"{place}: prompt and chosen begin differently; drop one, or make them say the same")


def pair_samples(pairs: Sequence[Pair]) -> list[Sample]:
    """Two rows a pair, chosen first, with the loss on the answers; the pair's number is their group."""
    return [
        _sample(number, pair.prompt.token_ids, answer)
        for number, pair in enumerate(pairs)
        for answer in (pair.chosen, pair.rejected)
    ]


def _sample(group: int, prompt: Int32s, answer: Int32s) -> Sample:
    size = len(prompt) + len(answer)
    return Sample(
        group=group,
        prompt_length=len(prompt),
        token_ids=np.concatenate([prompt, answer]).astype(np.int32),
        loss_mask=np.arange(size) >= len(prompt),
        sampler_logprob=np.zeros(size, np.float32),
        policy_version=np.full(size, -1, np.int32),
        advantage=np.zeros(size, np.float32),
        weight=np.ones(size, np.float32),
    )


def _texts(config: DataConfig, path: str, seed: int, counts: _Counts) -> Iterator[PairText]:
    found: Iterable[PairText | None]
    if path:
        found = read_pairs(path, config.prompt_key)
    elif config.generator:
        if not config.size:
            raise DataError("data.generator needs data.size, the number of pairs to make")
        found = build(PairGenerator, config.generator, "data.generator").pairs(config.size, seed)
    else:
        raise DataError("no pairs: set data.path to a file with columns chosen and rejected, or data.generator")
    limit = config.size if path == config.path else 0
    for text in found:
        if limit and counts.rows >= limit:
            return
        counts.rows += 1
        if text is None:
            counts.unpaired += 1
        else:
            messages = filled(text.messages, config.template, config.system, text.fields, text.place)
            yield replace(text, messages=messages)


def _dialogue(text: str, place: str) -> tuple[Message, ...]:
    """hh-rlhf's ``\\n\\nHuman: ... \\n\\nAssistant: ...`` as messages; text before the first marker is dropped."""
    parts = TURN.split(text)
    messages = tuple(
        {"role": ROLES[speaker], "content": words.strip()}
        for speaker, words in zip(parts[1::2], parts[2::2], strict=True)
    )
    if not messages:
        raise DataError(f"{place}: no column 'prompt', and the texts have no turns marked '\\n\\nAssistant:'")
    return messages


def _tokenize(texts: Iterator[PairText], rules: _Rules, counts: _Counts) -> list[Pair]:
    template = rules.template
    found: dict[str, Pair] = {}
    for text in texts:
        messages = text.messages
        with refused_at(text.place):
            template.check(messages, text.tools)
            ids = template.prompt_ids(messages, text.tools)
            answers = [
                np.array(template.answer_ids(messages, message_of(answer), text.tools), np.int32)
                for answer in (text.chosen, text.rejected)
            ]
        name = content_id(str(ids), *(str(answer.tolist()) for answer in answers))
        if np.array_equal(answers[0], answers[1]) or name in found:
            counts.same += 1
            continue
        pair = _pair(messages, np.asarray(ids, np.int32), answers, rules, counts)
        if pair is not None:
            found[name] = pair
    if not found:
        raise DataError(f"none of {counts.rows} rows makes a pair: {counts}")
    return list(found.values())


def _pair(
    messages: tuple[Message, ...], ids: Int32s, answers: Sequence[Int32s], rules: _Rules, counts: _Counts
) -> Pair | None:
    """The pair within its limits, None where it does not survive them."""
    prompt, chosen, rejected = _fit(ids, answers, rules.data.max_prompt_tokens, rules.max_tokens)
    was_cut = len(prompt) < len(ids) or len(chosen) < len(answers[0]) or len(rejected) < len(answers[1])
    if was_cut and rules.truncation is Truncation.drop:
        counts.too_long += 1
        return None
    counts.cut += was_cut
    if np.array_equal(chosen, rejected):  # they only differed in what was cut
        counts.same += 1
        return None
    name = content_id(str(ids.tolist()))
    return Pair(prompt=Prompt(id=name, messages=messages, token_ids=prompt), chosen=chosen, rejected=rejected)


def _fit(prompt: Int32s, answers: Sequence[Int32s], max_prompt: int, max_tokens: int) -> tuple[Int32s, Int32s, Int32s]:
    """Cut the prompt's beginning, then the answers' ends, as far as the limits want it."""
    longest = max(map(len, answers))
    if len(prompt) + longest > max_tokens:
        prompt = prompt[len(prompt) - min(len(prompt), max(max_prompt, 1)) :]
    room = max_tokens - len(prompt)
    return prompt, answers[0][:room], answers[1][:room]
