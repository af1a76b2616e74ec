"""The gold answers of a prompt: one, or several of which any counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

KEYS = ("target", "ground_truth")


def alternatives(answer: Any) -> tuple[str, ...]:
    """The texts that count as the answer: a text or number itself, each entry of a list, the target of verl's dict.

    A number counts as people write it too: 18.0 as 18, 0.1 that a table has kept in 32 bit as 0.1. Raises ValueError
    without an answer, and on any other type: nothing is compared as the text of a Python object.
    """
    if isinstance(answer, Mapping) and len(golds := [answer[key] for key in KEYS if answer.get(key) is not None]) == 1:
        answer = golds[0]
    if hasattr(answer, "tolist"):  # a NumPy scalar or array, as parquet gives them
        answer = answer.tolist()
    entries = list(answer) if isinstance(answer, list | tuple | set | frozenset) else [answer]
    texts = [text for entry in entries for text in _texts(entry)]
    if not texts:
        raise ValueError("the prompt has no gold answer")
    return tuple(dict.fromkeys(texts))


def _texts(entry: Any) -> list[str]:
    if hasattr(entry, "item") and not isinstance(entry, str):
        entry = entry.item()
    if entry is None:
        return []
    if isinstance(entry, str):
        return [entry] if entry.strip() else []
    if isinstance(entry, bool) or not isinstance(entry, int | float):
        raise ValueError(
            f"the gold answer {str(entry)[:60]!r} is of type {type(entry).__name__}; "
            "it must be a text, a number, or a list of these of which any counts"
        )
    if isinstance(entry, int):
        return [str(entry)]
    if not math.isfinite(entry):
        raise ValueError(f"the gold answer is the number {entry}")
    return [str(int(entry)), str(entry)] if entry.is_integer() else [*_shorter(entry), str(entry)]


def _shorter(number: float) -> list[str]:
    """The decimal that was meant where a table kept it in 32 bit (0.10000000149011612 was 0.1) or a sum left dust."""
    single = str(np.float32(number))
    if float(np.float32(number)) == number and len(single) < len(str(number)):
        return [single]
    dusted = f"{number:.15g}"
    return [dusted] if len(dusted) < len(str(number)) else []
