"""What is read off a language model's replies: tagged fields, a program, the last boxed value."""

from __future__ import annotations

import re

from .chain import Reason, Rejected

CODE = re.compile(r"```(?:python)?\s*\n(.*?)```", re.DOTALL)
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # or an escaped letter, which is no brace
UNCLOSED = 16  # boxes without an end that are skipped, from the last on: each costs a way through the text


class Dropped(Exception):
    """A step failed; carries the rejection."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.rejected = Rejected(reason=reason, detail=detail[:200])
        super().__init__(f"{reason}: {detail}")


def field(reply: str, name: str) -> str:
    """The text between ``<name>`` and ``</name>``. Raises Dropped when it is absent or empty."""
    match = re.search(rf"<{name}>(.*?)</{name}>", reply, re.DOTALL)
    if match is None or not match.group(1).strip():
        raise Dropped(Reason.TAGS_MISSING, f"no <{name}>")
    return match.group(1).strip()


def value_of(reply: str) -> str:
    """The field of the value. Raises Dropped when the model says that there is none."""
    value = field(reply, "value").strip("$ ")
    if value.lower() == "none":
        raise Dropped(Reason.VALUE_NONE, "the model found no value")
    return value


def code_of(reply: str) -> str:
    """The first code block, or the whole reply where there is none."""
    block = CODE.search(reply)
    return block.group(1) if block else reply


def last_boxed(reply: str) -> str | None:
    r"""What stands in the last ``\boxed{...}`` that is closed, or None; escaped braces do not count."""
    for opening in list(re.finditer(r"\\boxed *\{", reply))[: -UNCLOSED - 1 : -1]:
        depth = 1
        for brace in BRACE.finditer(reply, opening.end()):
            depth += {"{": 1, "}": -1}.get(brace.group(), 0)
            if not depth:
                return reply[opening.end() : brace.start()].strip()
    return None
