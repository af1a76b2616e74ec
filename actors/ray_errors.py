"""What Ray says of an actor that failed, in one line for a person."""

from __future__ import annotations

import re

from ray.exceptions import OutOfMemoryError

CONTENT = re.compile(
    r"\b(ValueError|KeyError|TypeError|AttributeError|ValidationError|NotImplementedError|FileNotFoundError)\b"
)
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
MEMORY = (
    "the machine ran out of memory and Ray ended the process; fix: fewer or smaller workers (rollout.workers, "
    "rollout.kv_cache_gb, learner.ranks, rewards.NAME.workers), or a machine with more memory"
)


def cause_of(error: BaseException) -> str:
    """The exception that ended an actor, without the way there: the last line of a traceback's own level, else the text.

    Ray's text of a call or a constructor that raised is the traceback of another process, in colours.
    """
    if isinstance(error, OutOfMemoryError):
        return MEMORY
    cause = getattr(error, "cause", None)
    text = ANSI.sub("", str(cause if isinstance(cause, BaseException) else error)).strip()
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if "Traceback (most recent call last)" not in text and not any("ray::" in line for line in lines):
        return lines[0].strip()
    outer = [line for line in lines if not line[:1].isspace() and not line.startswith(("ray::", "Traceback", "During"))]
    return (outer or lines)[-1].strip()


def born_dead(error: BaseException) -> bool:
    """Whether another actor of the same arguments would fail the same way: its constructor raised, or its engine said
    that it cannot be made of these files and settings. What is short of memory may find it free the next time.
    """
    text = str(error)
    return bool(getattr(error, "actor_init_failed", False)) or bool(CONTENT.search(text) and "memory" not in text)
