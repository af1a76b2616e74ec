"""What comes of scoring one item, and the check that every function's answer passes."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An item that has no value, charged to the function.

    Example: ``Failed(kind=FailureKind.ERROR, reason="ValueError: the prompt has no gold answer")``
    """

    kind: FailureKind
    reason: str


Item: TypeAlias = tuple[Prompt, tuple[Trajectory, ...]]
Outcome: TypeAlias = tuple[Value, ...] | Failed


def checked(values: Any, count: int) -> tuple[Value, ...]:
    """The function's values. Raises TypeError or ValueError on another type, a wrong number, NaN or infinity."""
    if not isinstance(values, Sequence) or not all(isinstance(value, Value) for value in values):
        raise TypeError(f"the reward function returned {type(values).__name__}, expected a list of Value")
    if len(values) != count:
        raise ValueError(f"the reward function returned {len(values)} values for {count} trajectories")
    for value in values:
        finite(value.score, "the score")
        for name, channel in value.channels.items():
            if not np.isfinite(channel).all():
                raise ValueError(f"channel {name} holds NaN or infinity")
    return tuple(values)


def describe_error(error: BaseException) -> str:
    """Type and message in at most 500 characters, without the traceback."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text[:500]
