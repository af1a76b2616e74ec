"""JSON that gives back what it was made of: tuples, keys that are no texts, sets and bytes too."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from raylign.errors import DataError

TUPLE, SET, FROZEN, ITEMS, BYTES = "~tuple", "~set", "~frozenset", "~items", "~bytes"
MARKS = frozenset({TUPLE, SET, FROZEN, ITEMS, BYTES})  # an object with one of these as its only key stands for another
SEQUENCES = {TUPLE: tuple, SET: set, FROZEN: frozenset}


def dumps(value: Any, place: str) -> str:
    """One line of JSON. Raises DataError on a value that would not come back as it is, naming where it stands."""
    text = json.dumps(_marked(value, place), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{place}: holds half a surrogate pair ({error.reason}), which is no text; drop it") from error
    return text


def restored(value: Any) -> Any:
    """The value behind one that was read as plain JSON."""
    if isinstance(value, list):
        return [restored(inner) for inner in value]
    if not isinstance(value, Mapping):
        return value
    name = next(iter(value)) if len(value) == 1 else ""
    if name in MARKS and isinstance(value[name], str if name == BYTES else list):
        if name == BYTES:
            return base64.b64decode(value[name])
        if name == ITEMS:
            return {restored(key): restored(inner) for key, inner in value[name]}
        return SEQUENCES[name](restored(inner) for inner in value[name])
    return {key: restored(inner) for key, inner in value.items()}


def _marked(value: Any, place: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return _scalar(value)
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and not (len(value) == 1 and MARKS & value.keys()):
            return {str(key): _marked(inner, f"{place}.{key}") for key, inner in value.items()}
        return {ITEMS: [[_marked(key, place), _marked(inner, f"{place}.{key}")] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        inner = [_marked(member, f"{place}[{number}]") for number, member in enumerate(value)]
        return {TUPLE: inner} if isinstance(value, tuple) else inner
    if isinstance(value, set | frozenset):
        members = sorted((_marked(member, place) for member in value), key=repr)
        return {SET if isinstance(value, set) else FROZEN: members}
    if isinstance(value, bytes):
        return {BYTES: base64.b64encode(value).decode()}
    raise DataError(
        f"{place} holds a {type(value).__name__}, which a file of rows cannot give back; fix: put texts, numbers, "
        "lists or objects there (an array: its tolist())"
    )


def _scalar(value: Any) -> Any:
    """Itself, without a subclass around it: of a member of an enumeration its value."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    return int(value) if isinstance(value, int) else float(value)
