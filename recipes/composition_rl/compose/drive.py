"""One interface for composers by rule and composers that ask a language model: a generator of requests.

``composer.work(first, second)`` yields what it wants to know (`Ask` a language model, `RunProgram`) and is sent the
reply as text; it returns the chain or the reason why there is none. Who answers is the caller's business: nobody
(`compose_now`), a function (`compose_with`), or two coroutines, for a model and for programs (`compose_async`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from .chain import Chain, ChainOrRejected, CompositionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question for a language model; `step` is its number in the pipeline and `attempt` counts repetitions.

    Example: ``Ask(step=0, text="Read the problem ...", attempt=0)``
    """

    step: int
    text: str
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgram:
    """A program to be run; the reply is what it printed, or starts with `programs.FAILED` or `programs.REFUSED`.

    Example: ``RunProgram(step=2, code="print(1 + 1)")``
    """

    step: int
    code: str


Request: TypeAlias = Ask | RunProgram
Work: TypeAlias = Generator[Request, str, ChainOrRejected]


class Composer(Protocol):
    """Makes one chain of two."""

    def work(self, first: Chain, second: Chain) -> Work:
        """The requests of one composition; returns the chain or why it was dropped."""


def compose_now(composer: Composer, first: Chain, second: Chain) -> ChainOrRejected:
    """Compose with a composer that makes no requests. Raises CompositionError when it makes one."""
    work = composer.work(first, second)
    try:
        next(work)
    except StopIteration as end:
        outcome: ChainOrRejected = end.value
        return outcome
    raise CompositionError(
        f"{type(composer).__name__} asks a language model, and here is none to answer; make the set in advance"
    )


def compose_with(composer: Composer, first: Chain, second: Chain, reply: Callable[[Request], str]) -> ChainOrRejected:
    """Compose with a function that answers every request."""
    work = composer.work(first, second)
    try:
        request = next(work)
        while True:
            request = work.send(reply(request))
    except StopIteration as end:
        outcome: ChainOrRejected = end.value
        return outcome


async def compose_async(
    composer: Composer,
    first: Chain,
    second: Chain,
    complete: Callable[[Ask], Awaitable[str]],
    run: Callable[[RunProgram], Awaitable[str]],
) -> ChainOrRejected:
    """Compose with one coroutine that answers questions and one that runs programs."""
    work = composer.work(first, second)
    try:
        request = next(work)
        while True:
            request = work.send(await (complete(request) if isinstance(request, Ask) else run(request)))
    except StopIteration as end:
        outcome: ChainOrRejected = end.value
        return outcome
