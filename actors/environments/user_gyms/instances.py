"""The instances of a gym: a file of JSON, read once in a process, each row checked before anything is played."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from raylign.errors import DataError

Row = TypeVar("Row")


def instances(path: str, read: Callable[[Mapping[str, Any], str], Row]) -> tuple[Row, ...]:
    """All rows of a file: a list of objects, or an object of them by name. read: makes one of an object and its place.

    Raises DataError, naming file and row.
    """
    if not path:
        raise DataError("environment.fn.path is empty: name the gym's file of instances (docs: recipes/bao)")
    try:
        changed = Path(path).stat().st_mtime_ns
    except OSError as error:
        raise DataError(
            f"environment.fn.path={path}: {error.strerror or error}; fix: name the file of the gym's instances"
        ) from error
    return _read(path, changed, read)


@lru_cache(maxsize=16)
def _read(path: str, changed: int, read: Callable[[Mapping[str, Any], str], Row]) -> tuple[Row, ...]:
    try:
        raw = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON ({error}); fix: name the file of the gym's instances") from error
    named = raw.items() if isinstance(raw, Mapping) else enumerate(raw) if isinstance(raw, list) else ()
    rows = []
    for name, row in named:
        place = f"{path}: row {name}"
        if not isinstance(row, Mapping):
            raise DataError(f"{place}: is no object; fix: drop it")
        rows.append(read(row, place))
    if not rows:
        raise DataError(f"{path}: holds no instance; fix: give a list of objects, or an object of them")
    return tuple(rows)


def text_of(row: Mapping[str, Any], key: str, place: str) -> str:
    """A text that must be there. Raises DataError."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: {key} = {str(value)[:40]!r} is no text; fix: write one, or drop the row")
    return value.strip()


def number_of(row: Mapping[str, Any], key: str, place: str) -> float:
    """A finite number that must be there. Raises DataError."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{place}: {key} = {str(value)[:40]!r} is no number; fix: write one, or drop the row")
    return float(value)
