"""Questions to a judge: one answer each, read, cached by content, bounded in number, and counted.

    ask --key--> cache? --no--> in flight? --no--> [semaphore] model.complete --text--> read --value--> cache
                                                        ^                        |
                                                        +---- another seed ------+ unreadable, `tries` times
    score, embed: the same way to model.score and model.embed

A model that cannot be reached raises JudgeUnavailable, an answer that is never in form JudgeUnreadable. Neither is a
verdict: whoever asked must treat it as missing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from raylign.actors.judge.cache import ReplyCache, key_for, key_of
from raylign.actors.judge.chat import Before, ChatModel
from raylign.actors.judge.once import Once, packed, unpacked
from raylign.chat.thoughts import without_thoughts
from raylign.config.build import build, part_config
from raylign.config.schema import Node, Verb, node
from raylign.contracts import Part, Sampling
from raylign.errors import ConfigError, JudgeError, JudgeUnavailable, JudgeUnreadable, NotFinite, Problem
from raylign.records import Float32s, Int32s, Message, derive_seed
from raylign.tasks import together

T = TypeVar("T")
TEXTS = 64  # embedded by one request
REPEAT = "repeat"  # seeds of repeated questions are drawn apart from those of tries


@dataclass(slots=True, kw_only=True)
class JudgeCounts:
    """What questions cost and what became of them. Counts add up over questions, episodes and processes."""

    asked: int = 0
    hits: int = 0  # answered from the cache, or by a question in flight with the same words
    calls: int = 0  # completions that were asked of the model, tries and repeats included
    unavailable: int = 0  # questions without an answer because the model could not be reached
    unreadable: int = 0  # questions without an answer because none of the tries was in form
    repeats: int = 0  # questions that were asked twice to measure agreement
    disagreements: int = 0  # of these, answered differently
    tokens: int = 0
    seconds: float = 0.0  # waited for fresh answers

    def add(self, other: JudgeCounts) -> None:
        """Add another count to this one."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))

    def metrics(self, prefix: str) -> dict[str, float]:
        """All of them as numbers, named ``<prefix>/<count>``."""
        return {f"{prefix}/{item.name}": float(getattr(self, item.name)) for item in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T]):
    """A verdict and what it cost. Example: ``Answer(value=True, counts=JudgeCounts(asked=1, calls=1))``"""

    value: T
    counts: JudgeCounts


class Judge(Part):
    """Asks one chat model. Shared by everything in a process that names it by the same settings, see `shared_judge`."""

    @dataclass
    class Config:
        """Which model, how it samples, and what is kept. Defaults of sampling are CM2's judge's."""

        model: Node = node(ChatModel)
        temperature: float = 0.6
        top_p: float = 0.8
        max_tokens: int = 6000
        concurrency: int = 64  # completions in flight, per process
        tries: int = 2  # completions until one is in form
        cache_entries: int = 100_000  # answers kept in memory, the least recently used leave first; 0: none
        cache_dir: str = ""  # answers are kept here too, and read at the start; empty: in memory only
        repeat_share: float = 0.0  # share of fresh questions that is asked once more, to measure agreement

        def __post_init__(self) -> None:
            if not self.model:
                raise ValueError("model is empty: name one, e.g. {_target_: raylign.actors.judge.served.Served}")
            for name in ("max_tokens", "concurrency", "tries"):
                if getattr(self, name) < 1:
                    raise ValueError(f"{name} is {getattr(self, name)}, set it to 1 or more")
            if self.cache_entries < 0 or not 0 <= self.repeat_share <= 1:
                raise ValueError("cache_entries must be 0 or more and repeat_share between 0 and 1")

    def __init__(self, config: Config, model: ChatModel | None = None) -> None:
        self.config = config
        self.counts = JudgeCounts()
        self.model: ChatModel = build(ChatModel, config.model, "judge.model") if model is None else model
        self._gate = asyncio.Semaphore(config.concurrency)
        self._once = Once(ReplyCache(config.cache_entries, config.cache_dir))

    async def ask(
        self,
        messages: Sequence[Message],
        read: Callable[[Any], T],
        schema: Mapping[str, Any] | None = None,
        salt: str = "",
    ) -> Answer[T]:
        """One answer. With a schema the answer is JSON and `read` gets the parsed value, else it gets the text.

        read: raises ValueError, KeyError or TypeError on an answer that is not in form. salt: questions of the same
        words and another salt are other questions. Raises JudgeUnavailable, JudgeUnreadable; they carry no verdict.
        """

        async def work(counts: JudgeCounts) -> T:
            question = _Question(self.config, await self._name(), messages, schema, salt)
            texts, counts.hits = await self._once.texts([question.key], lambda _: self._fresh(question, read, counts))
            return question.read(texts[0], read)

        return await self._counted(1, work)

    async def score(self, before: Before, ids: Sequence[int] | Int32s) -> Answer[Float32s]:
        """[N] log-prob of each of these very ids after `before`, see `ChatModel.score`. Raises JudgeUnavailable, and
        JudgeUnreadable where the model gives something else than one number for each id, NotFinite where one is none.
        """

        async def work(counts: JudgeCounts) -> Float32s:
            given = [int(number) for number in ids]
            ahead: Any = [dict(entry) if isinstance(entry, Mapping) else int(entry) for entry in before]
            key = key_for(await self._name(), Verb.score.value, ahead, given)
            fresh = partial(self._timed, counts, lambda: self._scored(ahead, given))
            texts, counts.hits = await self._once.texts([key], lambda _: fresh())
            return unpacked(texts[0])

        return await self._counted(1, work)

    async def embed(self, texts: Sequence[str]) -> Answer[Float32s]:
        """[N, D] a vector for each text, see `ChatModel.embed`; each text is asked for once. Raises as `score` does.

        The cache counts entries, not bytes: who embeds much asks through `ServedEmbedder`, which has its own.
        """

        async def work(counts: JudgeCounts) -> Float32s:
            name = await self._name()

            async def fresh(numbers: Sequence[int]) -> list[str]:
                parts = [numbers[start : start + TEXTS] for start in range(0, len(numbers), TEXTS)]
                asked = (self._timed(counts, partial(self._embedded, [texts[n] for n in part])) for part in parts)
                return [text for part in await together(*asked) for text in part]

            keys = [key_for(name, Verb.embed.value, text) for text in texts]
            packs, counts.hits = await self._once.texts(keys, fresh)
            return np.stack([unpacked(pack) for pack in packs]) if packs else np.zeros((0, 0), np.float32)

        return await self._counted(len(texts), work)

    async def close(self) -> None:
        """Give back what the model holds."""
        await self.model.close()

    async def _counted(self, asked: int, work: Callable[[JudgeCounts], Awaitable[T]]) -> Answer[T]:
        """The answer with its counts, which the judge's own take in, failures too."""
        counts = JudgeCounts(asked=asked)
        try:
            return Answer(value=await work(counts), counts=counts)
        except JudgeError as error:
            counts.unavailable += isinstance(error, JudgeUnavailable)
            counts.unreadable += isinstance(error, JudgeUnreadable)
            raise
        finally:
            self.counts.add(counts)

    async def _name(self) -> str:
        """The model's name in keys: what is kept on disk outlives the run, and with it the model behind a name."""
        return await self.model.identity() if self.config.cache_dir else self.model.name

    async def _timed(self, counts: JudgeCounts, ask: Callable[[], Awaitable[list[str]]]) -> list[str]:
        started = time.perf_counter()
        try:
            async with self._gate:
                counts.calls += 1
                return await ask()
        finally:
            counts.seconds += time.perf_counter() - started

    async def _scored(self, before: Before, ids: Sequence[int]) -> list[str]:
        logprobs = np.asarray(await self.model.score(before, ids), np.float32)
        if logprobs.shape != (len(ids),):
            raise JudgeUnreadable(f"{self.model.name}: no log-prob for each of {len(ids)} ids: {logprobs[:4]}")
        if not np.isfinite(logprobs).all():
            raise NotFinite(f"{self.model.name}: not every log-prob of {len(ids)} ids is finite: {logprobs[:4]}")
        return [packed(logprobs)]

    async def _embedded(self, texts: Sequence[str]) -> list[str]:
        vectors = np.asarray(await self.model.embed(texts), np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise JudgeUnreadable(f"{self.model.name}: no vector for each of {len(texts)} texts, but {vectors.shape}")
        return [packed(vector) for vector in vectors]

    async def _fresh(self, question: _Question, read: Callable[[Any], T], counts: JudgeCounts) -> list[str]:
        started = time.perf_counter()
        try:
            text, value = await self._tried(question, read, counts)
            if question.repeated:
                await self._repeat(question, read, value, counts)
            return [text]
        finally:
            counts.seconds += time.perf_counter() - started

    async def _tried(self, question: _Question, read: Callable[[Any], T], counts: JudgeCounts) -> tuple[str, T]:
        why = ""
        for attempt in range(self.config.tries):
            text = await self._complete(question, derive_seed(attempt, question.key), counts)
            try:
                return text, question.read(text, read)
            except JudgeUnreadable as error:
                why = str(error)
        raise JudgeUnreadable(f"{self.model.name}: {self.config.tries} answers not in form, the last: {why}")

    async def _repeat(self, question: _Question, read: Callable[[Any], T], value: T, counts: JudgeCounts) -> None:
        """Ask once more. A repeat without an answer measures nothing."""
        try:
            text = await self._complete(question, derive_seed(0, question.key, REPEAT), counts)
            again = question.read(text, read)
        except JudgeError:
            return
        counts.repeats += 1
        counts.disagreements += again != value

    async def _complete(self, question: _Question, seed: int, counts: JudgeCounts) -> str:
        async with self._gate:
            counts.calls += 1
            reply = await self.model.complete(question.messages, question.sampling, seed)
        counts.tokens += reply.tokens
        return reply.text


class _Question:
    """The words of one question, its key, and how its answers are read."""

    def __init__(
        self,
        config: Judge.Config,
        model: str,
        messages: Sequence[Message],
        schema: Mapping[str, Any] | None,
        salt: str,
    ) -> None:
        self.messages, self.schema = tuple(messages), schema
        self.sampling = Sampling(
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            structure={"json": dict(schema)} if schema is not None else None,
        )
        self.key = key_of(model, self.messages, schema, self.sampling, salt)
        # By the key and not by chance: the same questions are repeated whoever asks them, and in a resumed run.
        self.repeated = derive_seed(0, self.key, "share") / 2**63 < config.repeat_share

    def read(self, text: str, read: Callable[[Any], T]) -> T:
        """The value of an answer, which its thoughts are no part of. Raises JudgeUnreadable."""
        said = text if text.lstrip().startswith(("{", "[{")) else without_thoughts(text)  # a text in JSON may name tags
        if not said and text:
            raise JudgeUnreadable(f"a thought and no answer in {text[-300:]!r}")
        try:
            return read(said if self.schema is None else json.loads(said, strict=False))  # line breaks within texts
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise JudgeUnreadable(f"{type(error).__name__}: {error} in {text[-300:]!r}") from error


def judge_problems(key: str, fields: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a judge's settings (fields of `Judge.Config`); its model is a part of its own."""
    try:
        part_config({"_target_": f"{Judge.__module__}.Judge", **fields}, key)
    except ConfigError as error:
        return list(error.problems)
    return []


_SHARED: dict[tuple[int, str], Judge] = {}


def shared_judge(fields: Mapping[str, Any]) -> Judge:
    """The judge of these settings in this process and event loop; made when first asked for.

    fields: of `Judge.Config`. Call it on the event loop that will ask. Raises ConfigError.
    """
    key = (id(asyncio.get_running_loop()), json.dumps(dict(fields), sort_keys=True, default=str))
    if key not in _SHARED:
        _SHARED[key] = build(Judge, {"_target_": "raylign.actors.judge.client.Judge", **fields}, "judge")
    return _SHARED[key]
