"""What Ray says of an actor that failed, in one line for a person."""

from __future__ import annotations

import re

from ray.exceptions import OutOfMemoryError

from raylign.errors import OUT_OF_MEMORY

CONTENT = re.compile(r"\b(Value|Key|Type|Attribute|Validation|NotImplemented|FileNotFound)Error\b")
NO_CAUSE = ("ray::", "Traceback", "During", "The above")
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def cause_of(error: BaseException) -> str:
    """The exception that ended an actor, without the way there: the last line of a traceback's own level, and what
    the exception says in further lines, joined.

    Ray's text of a call or a constructor that raised is the traceback of another process, in colours.
    """
    if isinstance(error, OutOfMemoryError):
        return OUT_OF_MEMORY
    cause = getattr(error, "cause", None)
    text = ANSI.sub("", str(cause if isinstance(cause, BaseException) else error)).strip()
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if "Traceback (most recent call last)" not in text and not any("ray::" in line for line in lines):
        return lines[0].strip()
    outer = [n for n, line in enumerate(lines) if not line[:1].isspace() and not line.startswith(NO_CAUSE)]
    return " ".join(line.strip() for line in lines[outer[-1] if outer else -1 :])


def born_dead(error: BaseException) -> bool:
    """Whether another actor of the same arguments would fail the same way: its constructor raised, or its engine said
    that it cannot be made of these files and settings. What is short of memory may find it free the next time.
    """
    text = str(error)
    return bool(getattr(error, "actor_init_failed", False)) or bool(CONTENT.search(text) and "memory" not in text)
