"""A reward that a random model gets in part: what `test_resume.py` learns from.

The workers of `short_runs.cluster` have this folder on their path.
"""

from __future__ import annotations

from typing import Any


def share_of_letters(prompt: str, response: str, answer: str, **_: Any) -> float:
    """Share of ASCII letters among the characters of a response."""
    return sum(character.isascii() and character.isalpha() for character in response) / max(1, len(response))
