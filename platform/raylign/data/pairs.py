"""Preference pairs: read from a file (see `pair_rows`) or made -> token ids, cut to length, with a held-out part.

Prompt and answer are what the chat template renders, encoded apart, so that the boundary between them is the same for
both answers, for the policy and for the reference: all score the ids made here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from raylign.chat.messages import message_of, refused_at
from raylign.chat.template import ChatTemplate, chat_template
from raylign.config.build import build
from raylign.config.schema import DataConfig
from raylign.contracts import PairGenerator
from raylign.data.columns import Columns
from raylign.data.holdout import held_out
from raylign.data.pair_report import PairReport
from raylign.data.pair_rows import PairText, read_pairs
from raylign.data.prompt_identity import canonical
from raylign.data.templates import filled
from raylign.errors import DataError
from raylign.records import Int32s, Prompt, Row, content_id


class Truncation(Enum):
    """Treatment of a pair that is longer than allowed.

    `left`: the prompt keeps its end, as HyPO's recipes have it; an answer that is still too long loses its own end.
    `drop`: the pair is left out and counted.
    """

    left = "left"
    drop = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A prompt and its two answers as token ids; each answer ends as the template ends a turn unless it was cut.

    Example: ``Pair(prompt=prompt, chosen=np.array([7, 8, 1]), rejected=np.array([9, 1]))``
    """

    prompt: Prompt
    chosen: Int32s  # [C]
    rejected: Int32s  # [R]
    tie: bool = False  # neither is better


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSet:
    """Pairs to train on and pairs held out; no prompt is in both."""

    train: tuple[Pair, ...]
    holdout: tuple[Pair, ...]
    report: PairReport

    @property
    def asked(self) -> str:
        """A hash of all that the prompts are besides their ids: messages, domain and what came with the row."""
        prompts = [pair.prompt for pair in (*self.train, *self.holdout)]
        return content_id(*(canonical([list(prompt.messages), prompt.domain, prompt.meta]) for prompt in prompts))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    data: DataConfig
    template: ChatTemplate
    max_tokens: int
    truncation: Truncation
    ties: bool


@dataclass(slots=True)
class _Counts:
    rows: int = 0
    unpaired: int = 0
    same: int = 0
    too_long: int = 0
    cut: int = 0
    ties: int = 0
    whole: int = 0  # tokens of the longest pair


def load_pairs(
    config: DataConfig, tokenizer: Any, max_tokens: int, truncation: Truncation, seed: int, *, ties: bool = False
) -> PairSet:
    """All pairs of a run, tokenised once: those of `data.path`, else those that `data.generator` makes.

    `data.eval_path`, or else `data.holdout` pairs with the smallest prompt ids, are held out, the same for every seed.
    `data.size` keeps the first rows of a file. Prompt and answer together may have `max_tokens`; where they have more
    the prompt is cut to `data.max_prompt_tokens`; see `Truncation`. ties: keep rows that say that neither answer is
    better; else they are dropped. Raises DataError.
    """
    counts = _Counts()
    rules = _Rules(
        data=config, template=chat_template(tokenizer), max_tokens=max_tokens, truncation=truncation, ties=ties
    )
    source = config.path or str(config.generator.get("_target_", ""))
    pairs = _tokenize(_texts(config, config.path, seed, counts), rules, counts)
    if config.eval_path:
        # What is dropped among the held-out rows is not reported: the counts are about what is trained on.
        held = _tokenize(_texts(config, config.eval_path, seed, _Counts()), rules, _Counts())
    else:
        held = sorted(pairs, key=lambda pair: pair.prompt.id)[: held_out(config, len(pairs), source, "pairs")]
    taken = {pair.prompt.id for pair in held}
    train = [pair for pair in pairs if pair.prompt.id not in taken]
    leaked = len(pairs) - len(train) - (0 if config.eval_path else len(held))
    if not train:
        fix = "name another data.eval_path, or leave it out"
        raise DataError(f"{source}: every one of {len(pairs)} prompts is held out too; fix: {fix}")
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
        ties=counts.ties,
        ties_kept=ties,
        longest=longest,
        whole=counts.whole,
    )
    return PairSet(train=tuple(train), holdout=tuple(held), report=report)


def rows_of_pairs(pairs: Sequence[Pair]) -> list[Row]:
    """Two rows a pair, chosen first, with the loss on the answers; the pair's number is their group."""
    return [
        _sample(number, pair.prompt.token_ids, answer)
        for number, pair in enumerate(pairs)
        for answer in (pair.chosen, pair.rejected)
    ]


def _sample(group: int, prompt: Int32s, answer: Int32s) -> Row:
    size = len(prompt) + len(answer)
    return Row(
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
    texts: Iterable[PairText | None]
    if path:
        texts = read_pairs(path, config.prompt_key)
    elif config.generator:
        if not config.size:
            raise DataError("data.generator needs data.size, the number of pairs to make")
        texts = build(PairGenerator, config.generator, "data.generator").pairs(config.size, seed)
    else:
        raise DataError("no pairs: set data.path to a file with columns chosen and rejected, or data.generator")
    limit = config.size if path == config.path else 0
    for text in texts:
        if limit and counts.rows >= limit:
            return
        counts.rows += 1
        if text is None:
            counts.unpaired += 1
        else:
            yield text if text.complete else _within(config, text)


def _within(config: DataConfig, text: PairText) -> PairText:
    """The pair with the run's template and system message around its prompt."""
    return replace(text, messages=filled(text.messages, config.template, config.system, text.fields, text.place))


def _tokenize(texts: Iterator[PairText], rules: _Rules, counts: _Counts) -> list[Pair]:
    template = rules.template
    pairs: dict[str, Pair] = {}
    for text in texts:
        counts.ties += text.tie
        if text.tie and not rules.ties:
            continue
        messages = text.messages
        with refused_at(text.place):
            template.check(messages, text.tools)
            ids = template.prompt_ids(messages, text.tools)
            answers = [
                np.array(template.answer_ids(messages, message_of(answer), text.tools), np.int32)
                for answer in (text.chosen, text.rejected)
            ]
        spelled = [str(answer.tolist()) for answer in answers]
        name = content_id(str(ids), *(["tie", *sorted(spelled)] if text.tie else spelled))
        if np.array_equal(answers[0], answers[1]) or name in pairs:
            counts.same += 1
            continue
        pair = _pair(text, np.asarray(ids, np.int32), answers, rules, counts)
        if pair is not None:
            pairs[name] = pair
    if not pairs:
        raise DataError(_no_pair(counts, rules))
    return list(pairs.values())


def _no_pair(counts: _Counts, rules: _Rules) -> str:
    why = [f"{counts.unpaired} have no common prompt", f"{counts.same} have equal answers or are repeated"]
    why += [f"{counts.ties} are ties"] if counts.ties and not rules.ties else []
    fix = "see that chosen and rejected differ, and only in the last answer"
    if counts.too_long:
        why.append(f"{counts.too_long} are longer than max_tokens={rules.max_tokens}")
        fix = f"set max_tokens of the stage to {counts.whole} (and model.max_context with it), or truncation: left"
    elif counts.cut:
        fix = f"the answers differ only in what is cut: set max_tokens of the stage to {counts.whole}"
    return f"none of {counts.rows} rows makes a pair: {', '.join(why)}; fix: {fix}"


def _pair(text: PairText, ids: Int32s, answers: Sequence[Int32s], rules: _Rules, counts: _Counts) -> Pair | None:
    """The pair within its limits, None where it does not survive them."""
    counts.whole = max(counts.whole, len(ids) + max(map(len, answers)))
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
    domain = Columns(text.fields, text.place, "", "", rules.data.domain_key).domain(text.domain)
    asked = Prompt(id=name, messages=text.messages, token_ids=prompt, domain=domain, place=text.place)
    return Pair(prompt=asked, chosen=chosen, rejected=rejected, tie=text.tie)


def _fit(prompt: Int32s, answers: Sequence[Int32s], max_prompt: int, max_tokens: int) -> tuple[Int32s, Int32s, Int32s]:
    """Cut the prompt's beginning, then the answers' ends, as far as the limits want it."""
    longest = max(map(len, answers))
    if len(prompt) + longest > max_tokens:
        prompt = prompt[len(prompt) - min(len(prompt), max(max_prompt, 1)) :]
    room = max_tokens - len(prompt)
    return prompt, answers[0][:room], answers[1][:room]
