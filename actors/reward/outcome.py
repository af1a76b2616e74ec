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
from raylign.records import Prompt, Span, Trajectory, Value


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


def checked(values: Any, trajectories: Sequence[Trajectory]) -> tuple[Value | None, ...]:
    """The function's values, one for each trajectory.

    Raises TypeError or ValueError on another type, a wrong number, NaN or infinity, and on spans outside what was said.
    """
    if not isinstance(values, Sequence) or not all(value is None or isinstance(value, Value) for value in values):
        raise TypeError(f"the reward function returned {type(values).__name__}, expected a list of Value")
    if len(values) != len(trajectories):
        raise ValueError(f"the reward function returned {len(values)} values for {len(trajectories)} trajectories")
    for value, trajectory in zip(values, trajectories, strict=True):
        if value is None:
            continue
        finite(value.score, "the score")
        for name, channel in value.channels.items():
            if not np.isfinite(channel).all():
                raise ValueError(f"channel {name} holds NaN or infinity")
        for role, score in value.roles.items():
            finite(score, f"the score of role {role}")
        if value.spans is not None:
            _check_spans(value.spans, trajectory)
    return tuple(values)


def _check_spans(spans: Sequence[Sequence[Span]], trajectory: Trajectory) -> None:
    if len(spans) != len(trajectory.calls):
        raise ValueError(
            f"spans of {len(spans)} calls for a trajectory of {len(trajectory.calls)}: give a tuple for each"
        )
    for number, (of_call, call) in enumerate(zip(spans, trajectory.calls, strict=True)):
        for span in of_call:
            finite(span.score, f"the score of a span of call {number}")
            if not 0 <= span.start < span.end <= len(call.text):
                where = f"characters {span.start} to {span.end} of call {number}"
                raise ValueError(f"a span has {where}, whose text has {len(call.text)}: give start < end within it")


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
