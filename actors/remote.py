"""The one place that starts Ray actors, awaits their replies, and names the cause of a failure."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import ray
from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError, RayError, RayTaskError

from raylign.actor_env import actor_env
from raylign.errors import OUT_OF_MEMORY, RaylignError

T = TypeVar("T")

GONE = (RayActorError, ObjectLostError, OutOfMemoryError)  # what a caller sees when an actor's process has ended
CLOSE_S = 5.0
CONTENT = re.compile(  # errors of files and settings; an OSError without a number is transformers' word about a file
    r"\b(?:Value|Key|Type|Attribute|NotImplemented|Assertion|Import|ModuleNotFound|FileNotFound|Permission|NotADirectory"
    r"|IsADirectory|\w*Validation|\w*Decode|Template\w*|Safetensor|Undefined)Error\b|\bOSError: (?!\[Errno)"
)
NO_CAUSE = ("ray::", "Traceback", "During", "The above")
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class NoAnswer(TimeoutError):
    """An actor did not answer in time. A TimeoutError that the actor itself raised is none."""


def spawn(
    worker: type, *arguments: Any, options: Mapping[str, Any], threads: int, gpu: bool, health: bool = False, **own: Any
) -> Any:
    """A new actor, `worker(*arguments)` in a process of its own.

    options: of Ray, for its place (resources, placement, runtime_env, whose variables stand above those of
    `actor_env(threads, gpu)`). own: further options of Ray; without them the actor is never restarted, and no call of
    it is repeated. health: with the concurrency group ``health``, whose calls are answered beside all others.
    """
    placed = dict(options)
    environment = dict(placed.pop("runtime_env", None) or {})
    variables = {**actor_env(threads, gpu), **environment.get("env_vars", {})}
    remote: Any = ray.remote(concurrency_groups={"health": 1}) if health else ray.remote  # type: ignore[call-overload]
    settings = {"max_restarts": 0, "max_task_retries": 0, **placed, **own}
    return remote(worker).options(**settings, runtime_env={**environment, "env_vars": variables}).remote(*arguments)


async def reply(reference: Awaitable[T], deadline_s: float | None = None) -> T:
    """What a call returned. Raises what the call raised, and NoAnswer after `deadline_s`; the call itself goes on."""
    try:
        async with asyncio.timeout(deadline_s) as limit:
            return await reference
    except TimeoutError:
        if limit.expired():
            raise NoAnswer(f"no answer within {deadline_s:g} s") from None
        raise


async def end(actor: Any) -> None:
    """Let an actor close what it holds, for a few seconds, and kill it."""
    try:
        with suppress(*GONE, RaylignError, NoAnswer):  # it is killed all the same
            await reply(actor.close.remote(), CLOSE_S)
    finally:
        kill(actor)


def kill(actor: Any) -> None:
    """End an actor at once and for good."""
    ray.kill(actor, no_restart=True)


async def in_order(starts: Sequence[Callable[[], Awaitable[Any]]], shared: bool) -> list[Any]:
    """Results of all starts. shared: whether they may be on one device, and so come one after the other.

    An engine that starts measures free memory, and takes whatever another frees or allocates meanwhile for its own.
    """
    if shared:
        return [await start() for start in starts]
    return list(await asyncio.gather(*(start() for start in starts)))


def cause_of(error: BaseException) -> str:
    """The exception that ended a call or an actor, without the way there: the last line of a traceback's own level,
    and what the exception says in further lines, joined. Ray's word for too little memory says what to do.

    Ray's text of a call or a constructor that raised is the traceback of another process, in colours.
    """
    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        error = error.cause
    if isinstance(error, OutOfMemoryError):
        return OUT_OF_MEMORY
    lines = [line.rstrip() for line in ANSI.sub("", str(error)).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if not any(line.startswith("Traceback (most recent call last)") or "ray::" in line for line in lines):
        if isinstance(error, RaylignError):
            return " ".join(line.strip() for line in lines)  # said for a person, to its last line
        named = isinstance(error, (RayError, RuntimeError))  # whose text says all; that of a KeyError is only the key
        return lines[0].strip() if named else f"{type(error).__name__}: {lines[0].strip()}"
    outer = [n for n, line in enumerate(lines) if not line[:1].isspace() and not line.startswith(NO_CAUSE)]
    return " ".join(line.strip() for line in lines[outer[-1] if outer else -1 :])


def born_dead(error: BaseException) -> bool:
    """Whether another actor of the same arguments would fail the same way: its constructor raised, or its engine said
    that it cannot be made of these files and settings.
    """
    return unborn(error) or by_content(str(error))


def by_content(cause: str) -> bool:
    """Whether a cause, as ``Kind: text``, lies in files or settings. What is short of memory may find it free later."""
    return bool(CONTENT.search(cause) and "memory" not in cause)


def unborn(error: BaseException) -> bool:
    """Whether the constructor of an actor raised."""
    return isinstance(error, RayActorError) and error.actor_init_failed
