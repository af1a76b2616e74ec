"""Checks that a model passes now and then that knows nothing. The workers of `short_runs.cluster` can import them."""

from __future__ import annotations

from typing import Any


def even(prompt: str, response: str, answer: str, **_: Any) -> float:
    """1 for a response with an even number of characters."""
    return float(len(response) % 2 == 0)


def unasked(prompt: str, response: str, answer: str, **_: Any) -> float:
    """1 for a response without a question mark."""
    return float("?" not in response)
