"""Several frozen models fill one stream of a batch: each scores the rows whose prompts are of its domain.

    rows --by prompts[g].domain--> teacher "math"  --log-probs--+--> one stream [N]
                              +--> teacher "code"  --log-probs--+

A model may see the prompt through its own chat template, or read another conversation in its place (a context): that is
rendered, the sampled ids stay as they are and only they are scored. So all models must share the policy's vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from raylign.batch import Batch, offsets_of
from raylign.chat.template import chat_template
from raylign.contracts import FrozenModelContext
from raylign.errors import ConfigError, DataError, Problem
from raylign.records import Float32s, Int32s, Message, Missing, Prompt
from raylign.tasks import together


class TokenScorer(Protocol):
    """A frozen model as this module sees it; `raylign.actors.frozen_model.FrozenModelGroup` is one."""

    async def logprobs(self, batch: Batch) -> Float32s:
        """[N] log-probs of the loss tokens, 0 elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedModel:
    """One frozen model and the prompts that it answers for.

    Example: ``RoutedModel(name="math", frozen=group, domain="math", tokenizer=None)``
    """

    name: str
    frozen: TokenScorer
    domain: str = ""  # empty: every prompt; then it must be the only model of its stream
    tokenizer: Any = (
        None  # with a chat template, or a ChatTemplate, that renders prompts; None: the policy's prompt ids
    )
    context: FrozenModelContext | None = None  # what the model reads in place of the prompt; needs the tokenizer


class RoutedModels:
    """Implements `raylign.contracts.FrozenStream`. A prompt of an unknown domain is an error, never a fallback."""

    def __init__(self, stream: str, models: Sequence[RoutedModel]) -> None:
        domains = [model.domain for model in models]
        clash = len(set(domains)) < len(domains) or ("" in domains and len(domains) > 1)
        if not models or clash:
            fix = "give every frozen model of the stream a domain of its own, or keep a single one without a domain"
            names = ", ".join(f"{model.name} ({model.domain or 'all domains'})" for model in models)
            raise ConfigError(
                [Problem(key="frozen", value=names or "none", why=f"do not divide stream {stream}", fix=fix)]
            )
        self.name = stream
        self._models = {model.domain: model for model in models}

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raises DataError naming the domains that no model answers for, before any work is done."""
        if "" not in self._models:
            unknown = sorted({prompt.domain for prompt in prompts} - set(self._models))
            if unknown:
                raise self._unknown(unknown)

    async def stream(self, batch: Batch, prompts: Sequence[Prompt]) -> Float32s:
        """[N] log-prob of every loss token, 0 elsewhere, NaN on rows whose context is missing.

        Raises DataError on a domain without a model, and when more contexts are missing than allowed.
        """
        rows_of: dict[str, list[int]] = {}
        for row, group in enumerate(batch.groups):
            domain = "" if "" in self._models else prompts[group].domain
            rows_of.setdefault(domain, []).append(row)
        unknown = sorted(set(rows_of) - set(self._models))
        if unknown:
            raise self._unknown(unknown)
        parts = await together(
            *(self._score(self._models[domain], batch.select(rows), prompts) for domain, rows in rows_of.items())
        )
        result = np.zeros(batch.tokens, np.float32)
        for rows, values in zip(rows_of.values(), parts, strict=True):
            result[_positions(batch, rows)] = values
        return result

    async def _score(self, model: RoutedModel, part: Batch, prompts: Sequence[Prompt]) -> Float32s:
        """[K] log-probs of the loss tokens of the model's own rows, in their order."""
        if model.context is not None:
            return await self._score_in_context(model, model.context, part, prompts)
        if model.tokenizer is not None:
            part = rendered_anew(part, prompts, model.tokenizer)
        values = await model.frozen.logprobs(part)
        return values[np.asarray(part["loss_mask"], bool)]

    async def _score_in_context(
        self, model: RoutedModel, context: FrozenModelContext, part: Batch, prompts: Sequence[Prompt]
    ) -> Float32s:
        asked = [
            context.messages(prompts[group], _response(part, row, model.tokenizer))
            for row, group in enumerate(part.groups)
        ]
        given = await together(*asked)
        missing = [head.reason for head in given if isinstance(head, Missing)]
        if len(missing) > context.max_missing * len(given):
            raise DataError(
                f"frozen model {model.name}: no context for {len(missing)} of {len(given)} rows, first: {missing[0]}; "
                f"at most {context.max_missing:.0%} may be missing"
            )
        rows = [row for row, head in enumerate(given) if not isinstance(head, Missing)]
        heads = [_ids(head, model.tokenizer) for head in given if not isinstance(head, Missing)]
        result = np.full(part.tokens, np.nan, np.float32)
        if rows:
            rescored = _after(part.select(rows), heads)
            values = await model.frozen.logprobs(rescored)
            result[_positions(part, rows)] = values[np.asarray(rescored["loss_mask"], bool)]
        return result[np.asarray(part["loss_mask"], bool)]

    def _unknown(self, domains: Sequence[str]) -> DataError:
        listed = ", ".join(repr(domain) for domain in domains)
        known = ", ".join(repr(domain) for domain in self._models)
        return DataError(
            f"no frozen model of stream {self.name} answers for the prompt domains {listed}; there are some for "
            f"{known}; "
            "fix: add frozen.NAME with stream and domain, or correct the domain column of the data"
        )


def rendered_anew(batch: Batch, prompts: Sequence[Prompt], tokenizer: Any) -> Batch:
    """The rows with their prompts rendered by this tokenizer's chat template; ids after the prompt are unchanged.

    Carries token_ids and loss_mask only, which is what a frozen model reads. prompts[g] is the prompt of group g.
    """
    rendered: dict[int, Int32s] = {}
    for group in map(int, batch.groups):
        if group not in rendered:
            rendered[group] = _ids(prompts[group].messages, tokenizer, prompts[group].tools)
    return _after(batch, [rendered[int(group)] for group in batch.groups])


def _after(batch: Batch, heads: Sequence[Int32s]) -> Batch:
    """The rows with these ids in the place of their prompts, token_ids and loss_mask only.

    Rows of a group whose heads differ become groups of their own: a frozen model computes a group's common head once.
    """
    ids, masks = [], []
    numbers: dict[tuple[int, bytes], int] = {}
    groups = np.zeros(len(heads), np.int32)
    for row, head in enumerate(heads):
        start = int(batch.prompt_lengths[row])
        groups[row] = numbers.setdefault((int(batch.groups[row]), head.tobytes()), len(numbers))
        ids.append(np.concatenate([head, batch.row(row, "token_ids")[start:]]))
        masks.append(np.concatenate([np.zeros(len(head), bool), batch.row(row, "loss_mask")[start:]]))
    return replace(
        batch,
        offsets=offsets_of([len(row) for row in ids]),
        prompt_lengths=np.array([len(head) for head in heads], np.int32),
        groups=groups,
        streams={"token_ids": np.concatenate(ids).astype(np.int32), "loss_mask": np.concatenate(masks)},
    )


def same_vocabulary(policy: Any, other: Any, key: str, path: str) -> None:
    """Raises ConfigError unless both tokenizers give every text of their vocabulary the same id."""
    ours: Mapping[str, int] = policy.get_vocab()
    theirs: Mapping[str, int] = other.get_vocab()
    if ours == theirs:
        return
    strange = next((token for token, number in ours.items() if theirs.get(token) != number), "")
    why = f"has another vocabulary than the policy (they differ in {strange!r}), so sampled ids mean other texts"
    raise ConfigError([Problem(key=key, value=path, why=why, fix="choose a model of the same tokenizer family")])


def _ids(messages: Sequence[Message], tokenizer: Any, tools: Sequence[Mapping[str, Any]] = ()) -> Int32s:
    """[P] ids of a conversation with the header of the answer at its end."""
    return np.asarray(chat_template(tokenizer).prompt_ids(messages, tools), np.int32)


def _response(batch: Batch, row: int, tokenizer: Any) -> str:
    """What the row samples, as text."""
    ids = batch.row(row, "token_ids")[int(batch.prompt_lengths[row]) :]
    return chat_template(tokenizer).text_of(ids.tolist())


def _positions(batch: Batch, rows: Sequence[int]) -> Int32s:
    """Positions in the flat streams of the loss tokens of these rows, row after row."""
    mask = np.asarray(batch["loss_mask"], bool)
    spans = [np.arange(batch.offsets[row], batch.offsets[row + 1]) for row in rows]
    index = np.concatenate(spans)
    return index[mask[index]].astype(np.int32)
