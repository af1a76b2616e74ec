"""What a user's reward function returned -> values. Numbers of every library, dicts with a score, None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from raylign.records import Value

ONE = "expected a number, a dict with a 'score', or None where the reward does not apply"


def listed(returned: Any, count: int, path: str) -> list[Any]:
    """One entry per response of what a call on several returned.

    A list, a tuple, an array or a tensor of one dimension, or a dict of these whose ``score`` is one. Raises TypeError
    or ValueError with the function's name.
    """
    if returned is None:
        return [None] * count
    if isinstance(returned, Mapping):
        _has_score(returned, path)
        columns = {name: _entries(column, path) for name, column in returned.items() if _many(column)}
        if "score" not in columns:
            raise TypeError(f"{path} returned one 'score' for {count} responses, expected a list")
        for name, column in columns.items():
            _fits(column, count, f"{path}: '{name}'")
        single = {name: value for name, value in returned.items() if name not in columns}
        return [{**single, **{name: column[i] for name, column in columns.items()}} for i in range(count)]
    if not _many(returned):
        raise TypeError(f"{path} returned {type(returned).__name__} for {count} responses, expected a list of numbers")
    entries = _entries(returned, path)
    _fits(entries, count, path)
    return entries


def valued(returned: Any, path: str) -> Value | None:
    """The value of one response. Raises TypeError on what is no number, no dict with a ``score`` and not None."""
    details: dict[str, Any] = {}
    if isinstance(returned, Mapping):
        _has_score(returned, path)
        details = {str(name): _plain(value) for name, value in returned.items() if name != "score"}
        returned = returned["score"]
    returned = _plain(returned)
    if isinstance(returned, list) and len(returned) == 1 and not isinstance(returned[0], list):
        returned = returned[0]
    if returned is None:
        return None
    if not isinstance(returned, Real):
        raise TypeError(f"{path} returned {str(returned)[:80]!r} ({type(returned).__name__}), {ONE}")
    return Value(score=float(returned), details=details)


def _has_score(returned: Mapping[Any, Any], path: str) -> None:
    if "score" not in returned:
        names = ", ".join(map(str, returned)) or "nothing"
        raise TypeError(f"{path} returned a dict without 'score' (it has {names})")


def _plain(value: Any) -> Any:
    """Scalars, arrays and tensors as Python numbers and lists; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def _many(value: Any) -> bool:
    plain = _plain(value)
    return isinstance(plain, Sequence) and not isinstance(plain, str | bytes)


def _entries(column: Any, path: str) -> list[Any]:
    entries = list(_plain(column))
    if hasattr(column, "tolist") and any(isinstance(entry, list) for entry in entries):
        shape = tuple(getattr(column, "shape", ()))
        raise ValueError(f"{path} returned an array of shape {shape}, expected one dimension")
    return entries


def _fits(entries: Sequence[Any], count: int, path: str) -> None:
    if len(entries) != count:
        raise ValueError(f"{path} returned {len(entries)} values for {count} responses")
