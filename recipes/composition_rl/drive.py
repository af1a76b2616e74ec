"""One interface for composers that think by themselves and composers that ask: a generator of requests.

``composer.work(first, second)`` yields what it wants to know (`Ask` a language model, run a `Program`) and is sent the
reply as text; it returns the composed problem or the reason why there is none. Who answers is the caller's business:
nobody (`compose_now`), a script (`compose_with`), or an engine and a sandbox (`compose_async`).
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias

from raylign.contracts import Part
from raylign.recipes.composition_rl.problem import Outcome, Problem
from raylign.recipes.composition_rl.sandbox import FAILED, Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question for a language model; `step` is its number in the pipeline and `attempt` counts repetitions.

    Example: ``Ask(step=0, text="Read the problem ...", attempt=0)``
    """

    step: int
    text: str
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program for the sandbox; the reply is what it printed, or starts with `sandbox.FAILED` or `sandbox.REFUSED`.

    Example: ``Program(step=2, code="print(1 + 1)")``
    """

    step: int
    code: str


Request: TypeAlias = Ask | Program
Work: TypeAlias = Generator[Request, str, Outcome]


class Composer(Part):
    """Makes one problem of two."""

    what = "a composer"

    @abstractmethod
    def work(self, first: Problem, second: Problem) -> Work:
        """The requests of one composition; returns the chain or why it was dropped."""


def compose_now(composer: Composer, first: Problem, second: Problem) -> Outcome:
    """Compose with a composer that asks nobody. Raises ValueError when it does."""
    work = composer.work(first, second)
    try:
        next(work)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
    raise ValueError(
        f"{type(composer).__name__} asks a language model: make the set first, with the stage "
        "raylign.recipes.composition_rl.ComposeSet, and name its file in source.path"
    )


def compose_with(composer: Composer, first: Problem, second: Problem, reply: Callable[[Request], str]) -> Outcome:
    """Compose with a function that answers every request."""
    work = composer.work(first, second)
    try:
        request = next(work)
        while True:
            request = work.send(reply(request))
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


async def compose_async(
    composer: Composer,
    first: Problem,
    second: Problem,
    complete: Callable[[Ask], Awaitable[str]],
    sandbox: Sandbox,
) -> Outcome:
    """Compose with an engine for questions and a sandbox for programs; neither blocks the event loop."""
    work = composer.work(first, second)
    try:
        request = next(work)
        while True:
            if isinstance(request, Ask):
                answer = await complete(request)
            else:
                answer = await asyncio.to_thread(sandbox.run, request.code)
            request = work.send(answer)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


__all__ = ["FAILED", "Ask", "Composer", "Program", "Request", "Work", "compose_async", "compose_now", "compose_with"]
