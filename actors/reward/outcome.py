"""The result of scoring one item, and the check that every function's answer passes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np

from raylign.contracts import finite
from raylign.records import Prompt, Trajectory, Value


class FailureKind(StrEnum):
    """Why an item has no value."""

    ERROR = "error"  # the function raised, or what it returned is no score
    TIMEOUT = "timeout"  # past the deadline; what ran it was killed
    DIED = "died"  # the function's process ended under it
    COSTLY = "costly"  # it spent the CPU time that a verdict may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An item that has no value, charged to the function.

    Example: ``Failed(kind=FailureKind.ERROR, reason="ValueError: the prompt has no gold answer")``
    """

    kind: FailureKind
    reason: str


Item: TypeAlias = tuple[Prompt, tuple[Trajectory, ...]]
Outcome: TypeAlias = tuple[Value | None, ...] | Failed  # None: the reward does not apply
DISTINCT = 50  # errors of which a process writes the traceback

_reported: set[tuple[type, str, int]] = set()


def checked(values: Any, count: int) -> tuple[Value | None, ...]:
    """The function's values. Raises TypeError or ValueError on another type, a wrong number, NaN or infinity."""
    if not isinstance(values, Sequence) or not all(value is None or isinstance(value, Value) for value in values):
        raise TypeError(f"the reward function returned {type(values).__name__}, expected a list of Value")
    if len(values) != count:
        raise ValueError(f"the reward function returned {len(values)} values for {count} trajectories")
    for value in values:
        if value is None:
            continue
        finite(value.score, "the score")
        for name, channel in value.channels.items():
            if not np.isfinite(channel).all():
                raise ValueError(f"channel {name} holds NaN or infinity")
        for role, score in value.roles.items():
            finite(score, f"the score of role {role}")
    return tuple(values)


def failed(error: BaseException) -> Failed:
    """The outcome of a function that raised. Its traceback goes to standard error, the worker's log in a run.

    Once for each type of error and line that raises it: a reward that always fails would fill the disk.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = (type(error), frames[-1].filename if frames else "", (frames[-1].lineno or 0) if frames else 0)
    if place not in _reported and len(_reported) < DISTINCT:
        _reported.add(place)
        sys.stderr.write("A reward failed (further failures at the same line are not shown):\n")
        traceback.print_exception(error, file=sys.stderr)
        sys.stderr.flush()
    return Failed(kind=FailureKind.ERROR, reason=describe_error(error))


def describe_error(error: BaseException) -> str:
    """Type and message in at most 500 characters, without the traceback."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text[:500]
