"""What a prompt, and the answer to it, carry of their injection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raylign.records import Prompt, Trajectory

INJECTANT = "injectant"  # key of a prompt's meta
WHOLE = "whole"  # key of a trajectory's payload: its text with the markers that were put into it


def injectant_of(prompt: Prompt) -> Mapping[str, Any] | None:
    """What a prompt was given: `Injectant`'s fields and the ``arm``; None without a view `Inject`."""
    injectant: Mapping[str, Any] | None = prompt.meta.get(INJECTANT)
    return injectant


def text_of(trajectory: Trajectory) -> str:
    """All that stands in an answer, what `Inline` put into it included."""
    return str(trajectory.payload.get(WHOLE, trajectory.text))
