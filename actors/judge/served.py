"""A chat model that the run itself serves (config section `judges`), reached by Ray actor name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.util import list_named_actors

from raylign.actors.judge.chat import Before, ChatModel, Reply
from raylign.actors.remote import GONE, NoAnswer, cause_of, reply, unborn
from raylign.config.resolve import Run
from raylign.config.schema import Verb
from raylign.contracts import Sampling
from raylign.errors import EngineDeadError, JudgeUnavailable, LoadError, Problem, RequestError
from raylign.records import Float32s, Int32s, Message

PAUSE_S = 0.5  # before a look for other workers, doubled up to
LONGEST_PAUSE_S = 5.0


def actor_name(judge: str, index: int) -> str:
    """The Ray name of worker `index` of a judge; unique in the run's namespace."""
    return f"judge/{judge}/{index}"


class Served(ChatModel):
    """Spreads requests over the workers of one judge, each to the one with the fewest in flight from here.

    A request whose worker dies goes to another, or waits until Ray has restarted it, for at most `patience_s`. For what
    cannot come back nobody waits: a worker that has no restart left, or whose model's files are at fault.
    """

    verbs = frozenset(Verb)

    @dataclass
    class Config:
        """Which judge, by its name under `judges`."""

        name: str = "judge"
        timeout_s: float = 600.0  # of one request, the wait behind others included
        patience_s: float = 300.0  # how long a judge that is restarted may be gone

        def __post_init__(self) -> None:
            if not self.name or self.timeout_s <= 0 or self.patience_s < 0:
                raise ValueError(f"name={self.name!r}: name a judge; timeout_s must be positive, patience_s 0 or more")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """The run must serve a judge of that name."""
        if config.name in run.config.judges:
            return []
        known = ", ".join(run.config.judges) or "none"
        fix = f"set judges.{config.name}.path=MODEL, or name one of: {known}"
        return [Problem(key=f"{key}.name", value=config.name, why="is no judge that this run serves", fix=fix)]

    def __init__(self, config: Config) -> None:
        self.config = config
        self._workers: dict[str, Any] = {}
        self._flying: dict[str, int] = {}
        self._identity = ""
        self._unfit: dict[str, str] = {}  # workers that no restart helps, and why

    @property
    def name(self) -> str:
        """The judge's name: its model does not change within a run."""
        return f"judges.{self.config.name}"

    @classmethod
    def lacks(cls, key: str, config: Config, verb: Verb, run: Run) -> list[Problem]:
        """The judge's section must name the verb."""
        judge = run.config.judges.get(config.name)
        if judge is None or verb in judge.verbs:
            return []
        verbs = ",".join([*(own.value for own in judge.verbs), verb.value])
        at = f"judges.{config.name}.verbs"
        why = f"is not asked to {verb.value}, as {key} needs"
        return [Problem(key=at, value=str([own.value for own in judge.verbs]), why=why, fix=f"set {at}=[{verbs}]")]

    async def identity(self) -> str:
        """See `ChatModel.identity`: of the worker's model files, or its endpoint."""
        if not self._identity:
            self._identity = str(await self._asked(lambda worker: worker.identity.remote()))
        return self._identity

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Reply:
        """The answer of some worker. Raises JudgeUnavailable."""
        said = [dict(message) for message in messages]
        answer: Reply = await self._asked(lambda worker: worker.complete.remote(said, sampling, seed))
        return answer

    async def score(self, before: Before, ids: Sequence[int] | Int32s) -> Float32s:
        """See `ChatModel.score`. Raises JudgeUnavailable."""
        logprobs: Float32s = await self._asked(lambda worker: worker.score.remote(before, ids))
        return logprobs

    async def tokens_of(self, text: str) -> list[int]:
        """See `ChatModel.tokens_of`. Raises JudgeUnavailable."""
        ids: list[int] = await self._asked(lambda worker: worker.tokens_of.remote(text))
        return ids

    async def embed(self, texts: Sequence[str]) -> Float32s:
        """See `ChatModel.embed`; states and pooling are told by `HiddenStates`. Raises JudgeUnavailable."""
        vectors: Float32s = await self._asked(lambda worker: worker.embed.remote(list(texts)))
        return vectors

    async def _asked(self, call: Callable[[Any], Awaitable[Any]]) -> Any:
        """What a call of some worker returns. Raises JudgeUnavailable."""
        gone_since, pause, why = 0.0, PAUSE_S, ""
        while (name := await self._choose()) is not None:
            try:
                return await self._called(name, call)
            except (*GONE, EngineDeadError) as error:
                self._workers.pop(name, None)
                why = cause_of(error)
                if unborn(error):
                    self._unfit[name] = why
            except LoadError as error:
                self._workers.pop(name, None)
                self._unfit[name] = cause_of(error)
                continue  # another may have what this one lacks
            except (RequestError, JudgeUnavailable) as error:
                verb = "refuses the request" if isinstance(error, RequestError) else "has no answer"
                raise JudgeUnavailable(f"{self.name} {verb}: {cause_of(error)}") from None
            except NoAnswer:
                limit = self.config.timeout_s
                raise JudgeUnavailable(f"{self.name} gave no answer within {limit:g} s") from None
            gone_since = gone_since or time.monotonic()
            if time.monotonic() - gone_since > self.config.patience_s:
                raise JudgeUnavailable(f"{self.name} is gone: {why}")
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)
        why = next(iter(self._unfit.values()), why) or "no worker of that name lives in this run's Ray namespace"
        raise JudgeUnavailable(f"{self.name} is gone for good: {why}; see logs/judge-{self.config.name}-*.log")

    async def close(self) -> None:
        """The workers belong to the run."""

    async def _called(self, name: str, call: Callable[[Any], Awaitable[Any]]) -> Any:
        self._flying[name] = self._flying.get(name, 0) + 1
        try:
            return await reply(call(self._workers[name]), self.config.timeout_s)
        finally:
            self._flying[name] -= 1

    async def _choose(self) -> str | None:
        """The worker with the fewest requests from here; None when none is there that could ever answer."""
        if not self._workers:
            there = await asyncio.to_thread(_workers_of, self.config.name)
            self._workers = {name: worker for name, worker in there.items() if name not in self._unfit}
        return min(self._workers, key=lambda name: self._flying.get(name, 0), default=None)


def _workers_of(judge: str) -> dict[str, Any]:
    """The workers of a judge that live now, by actor name; asks Ray's server."""
    workers = {}
    for name in sorted(list_named_actors()):
        if name.startswith(f"judge/{judge}/"):
            with suppress(ValueError):  # gone between the list and the look
                workers[name] = ray.get_actor(name)
    return workers
