"""Which numbers a setting may be, whichever part it belongs to: finite, of a size that is computed with, and no count
below zero.

Parts of a user's own are held to the same, counts excepted. A field where infinity means something says so:
``gamma: float = unbounded(0.0)``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

WHOLE = 2**53  # a whole number beyond it is no longer exact as a float, which metrics and JSON make of it
LARGEST, SMALLEST = 3.4e38, 1.2e-38  # of float32, in which models compute
LONGEST_S = 1e9  # seconds that a clock can wait, thirty years
OWN = "raylign."  # modules whose whole numbers are counts, unless their default is negative


class NumberFault(NamedTuple):
    """A number that cannot be meant; `path` is dotted and below the part."""

    path: str
    value: object
    why: str
    fix: str


def unbounded(default: float) -> float:
    """A dataclass field that may also be infinite."""
    return dataclasses.field(default=default, metadata={"unbounded": True})


def number_faults(
    schema: type[DataclassInstance], tree: Mapping[str, object], prefix: str = ""
) -> Iterator[NumberFault]:
    """Every number of a typed tree that cannot be meant. A node with a ``_target_`` within is a part of its own."""
    fields, hints = _fields(schema)
    for name, value in tree.items():
        if name not in fields:
            continue
        hint = hints[name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
            yield from number_faults(hint, value, f"{prefix}{name}.")
        else:
            yield from field_faults(schema, name, value, prefix)


def field_faults(schema: type[DataclassInstance], name: str, value: object, prefix: str = "") -> Iterator[NumberFault]:
    """As `number_faults`, of one field that holds no dataclass."""
    fields, _ = _fields(schema)
    if fields[name].metadata.get("unbounded") and not _is_nan(value):
        return
    counts = schema.__module__.startswith(OWN) and not _negative(fields[name])
    for path, number in _numbers(value, f"{prefix}{name}"):
        if why_fix := _fault(number, path, counts, seconds=name.endswith("_s")):
            yield NumberFault(path, number, *why_fix)


def _fault(number: int | float, path: str, counts: bool, seconds: bool) -> tuple[str, str] | None:
    """Why a number cannot be meant, and what to do; None where it can. The first rule that is broken speaks."""
    whole, size = isinstance(number, int), abs(number)
    smaller = f"set {path} to a smaller number"
    rules = (
        (_is_nan(number), "is no number", f"set {path} to a finite number"),
        (size == math.inf, "is infinite", f"set {path} to a finite number"),
        (seconds and number > LONGEST_S, "is more seconds than a clock can wait", f"set {path} to seconds, e.g. 3600"),
        (whole and size > WHOLE, f"is beyond {WHOLE:.0e}, more than can be counted", smaller),
        (whole and counts and number < 0, "must not be negative", f"set {path}=0 or more"),
        (size > LARGEST, "is too large for float32, in which models compute", smaller),
        (0 < size < SMALLEST, "is 0 in float32, in which models compute", f"set {path}=0 or to a larger number"),
    )
    return next(((why, fix) for broken, why, fix in rules if broken), None)


def _numbers(value: object, path: str) -> Iterator[tuple[str, int | float]]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, value
    elif isinstance(value, Mapping) and "_target_" not in value:
        for name, item in value.items():
            yield from _numbers(item, f"{path}.{name}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from ((path, number) for _, number in _numbers(item, path))


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _negative(item: dataclasses.Field[Any]) -> bool:
    return isinstance(item.default, int) and item.default < 0


@functools.cache
def _fields(schema: type[DataclassInstance]) -> tuple[dict[str, dataclasses.Field[Any]], dict[str, object]]:
    return {item.name: item for item in dataclasses.fields(schema)}, typing.get_type_hints(schema)
