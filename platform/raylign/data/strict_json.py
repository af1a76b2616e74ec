"""JSON text -> values, or a `DataError` at a place: nothing that JSON leaves open is decided in silence.

The literals NaN and Infinity are read, as test inputs of programs hold them (MBPP+); an answer or a tool's argument
that is one is refused by who reads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylign.errors import DataError

DEPTH = 100  # objects and arrays within one another; what reads a row later walks it recursively
SPACE = " \t\r\n"


class _Refused(ValueError):
    """Valid JSON, or nearly, that says something no reader may guess at."""


def parse(text: str, place: str) -> Any:
    """The value of one JSON text. Raises DataError on what is no JSON, and on what `check` refuses."""
    try:
        value = DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: {explain(error)}") from error
    check(value, text, place)
    return value


def elements(text: str, path: str) -> Iterator[tuple[str, Any]]:
    """``(place, value)`` of one JSON array's elements, each read on its own. Raises DataError with the line."""
    start = position = _skip(text, 0) + 1
    line, counted, number = 1, 0, 0
    while True:
        position = _skip(text, position)
        line, counted = line + text.count("\n", counted, position), position
        here = f"{path}:{line}"
        if text[position : position + 1] == "]" and (not number or text[_before(text, position)] != ","):
            break
        try:
            value, end = DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            cut = " or truncated" if isinstance(error, json.JSONDecodeError) else ""
            at = f"{path}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else here
            raise DataError(f"{at}: {explain(error).replace('not valid JSON', f'not valid JSON{cut}')}") from error
        number += 1
        check(value, text[position:end], f"{path}:row {number}, line {line}")
        yield f"{path}:row {number}", value
        position = _skip(text, end)
        if text[position : position + 1] == ",":
            position += 1
        elif text[position : position + 1] != "]":
            line += text.count("\n", counted, position)
            raise DataError(f"{path}:{line}: not valid JSON or truncated (a comma or the array's end is missing)")
    if position < start or text[position + 1 :].strip():
        raise DataError(f"{path}:{line}: not valid JSON (something follows the array)")


def explain(error: Exception) -> str:
    """One line about what the decoder did not take."""
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON ({error.msg} at column {error.colno})"
    if isinstance(error, _Refused):
        return str(error)
    if isinstance(error, RecursionError):
        return f"objects or arrays stand more than {DEPTH} deep in one another"
    return "holds an integer of more than 4300 digits; write it as text"


def check(value: Any, text: str, place: str) -> None:
    """Refuse half surrogate pairs and bottomless nesting. text: what the value was read from. Raises DataError."""
    # Only an escape can put a surrogate into a str; most rows are known to be sound without a look at their values.
    escaped = "\\u" in text and ("\\ud" in text or "\\uD" in text)
    if escaped or text.count("[") + text.count("{") > DEPTH:
        _walk(value, place, escaped)


def _walk(value: Any, place: str, texts: bool) -> None:
    level = [value]
    for _ in range(DEPTH + 1):
        below: list[Any] = []
        for entry in level:
            if isinstance(entry, Mapping):
                below += [*entry.keys(), *entry.values()] if texts else entry.values()
            elif isinstance(entry, str):
                if texts and any("\ud800" <= letter <= "\udfff" for letter in entry):
                    shown = entry[:60].encode("ascii", "backslashreplace").decode()
                    raise DataError(f"{place}: half a surrogate pair in {shown!r}: no text; fix or drop the row")
            elif isinstance(entry, Sequence):
                below += entry
        if not below:
            return
        level = below
    raise DataError(f"{place}: objects or arrays stand more than {DEPTH} deep in one another")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"the key {twice!r} stands twice in one object")
    return value


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _Refused(f"the number {digits[:40]} is beyond what a float holds; write it as text")
    return value


def _skip(text: str, position: int) -> int:
    while text[position : position + 1] and text[position] in SPACE:
        position += 1
    return position


def _before(text: str, position: int) -> int:
    position -= 1
    while text[position] in SPACE:
        position -= 1
    return position


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite)
