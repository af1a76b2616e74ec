"""Which prompts are the same: by everything that a part of the run can read of them, and by what is asked in them.

Bookkeeping makes no other prompt: a column that only numbers or files a row (`BOOKKEEPING`, at the top of a row or
within one of `CONTAINERS`). Every other column does, as do answer, domain, verifier and tools; a target never does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raylign.data.messages import MEDIA
from raylign.errors import DataError
from raylign.payloads import Reference, fetch
from raylign.records import Message, Payload, content_id

BOOKKEEPING = frozenset(
    {
        *("id", "_id", "idx", "_idx", "index", "uid", "uuid", "guid", "unique_id", "row_id", "row_idx", "row_index"),
        *("example_id", "sample_id", "original_index", "__index_level_0__", "source_index"),
        *("source", "source_dataset", "split"),
    }
)
CONTAINERS = frozenset({"extra_info", "info", "metadata", "extra", "entry"})
INSTANCE = "instance"  # of an environment, where its start does not show all of it
SHOWN = (
    INSTANCE,
    *MEDIA,
    "users",
    "goal",
    "recorded",
    "map",
    "mode",
    "options",
)  # what environments and tools show of a row later


def prompt_id(columns: Mapping[str, Any], place: str, *content: Any) -> str:
    """The id of a prompt. columns: its `meta`; content: messages, answer, domain, tools.

    place: where the prompt comes from, for messages. Raises DataError on a value that has no lasting form.
    """
    return content_id(*(canonical(part, place) for part in (*content, _counted(columns))))


def question_id(messages: Sequence[Message], meta: Mapping[str, Any], place: str) -> str:
    """The same for all prompts that ask the same: the messages, and what the policy is shown beside or after them.

    Columns, answer and verifier do not matter, so a prompt that was trained on is known in whatever form it returns.
    """
    shown = {name: meta[name] for name in SHOWN if meta.get(name) is not None}
    return content_id(canonical(messages, place), canonical(shown, place))


def canonical(value: Any, place: str = "") -> str:
    """A text that is the same for equal values, in every process. Raises DataError on a value that has none."""
    try:
        try:
            return _dumped(value)
        except TypeError:  # keys of several types, which have no order
            return _dumped(_with_text_keys(value))
    except _NoForm as error:
        raise DataError(
            f"{place}: holds a {error}, which looks different in every process, so that no checkpoint could know the "
            "row; fix: let the row hold texts, numbers, lists, objects, bytes or arrays"
        ) from None


def _dumped(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=_lasting)


class _NoForm(Exception):
    """Of a value that is told by its place in memory."""


def _counted(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that make a prompt another one; nulls are what parquet writes where there is nothing."""
    counted: dict[str, Any] = {}
    for name, value in meta.items():
        if value is None or str(name).lower() in BOOKKEEPING:
            continue
        if name not in CONTAINERS or not isinstance(value, Mapping):
            counted[name] = value
        elif inner := _counted(value):
            counted[name] = inner
    return counted


def _lasting(value: Any) -> Any:
    """What stands for a value that JSON lacks."""
    if isinstance(value, Payload | Reference | np.ndarray | np.generic):
        return _array(value)
    if isinstance(value, bytes | bytearray):
        return {"bytes": hashlib.sha256(value).hexdigest()}
    if isinstance(value, set | frozenset):
        return sorted(canonical(member) for member in value)
    if isinstance(value, Mapping):
        return dict(value)
    text = repr(value)
    if " at 0x" in text or type(value).__repr__ is object.__repr__:
        raise _NoForm(type(value).__name__)
    return f"{type(value).__name__}:{text}"


def _array(value: Any) -> Any:
    if isinstance(value, Payload | Reference):
        return [value.kind, _array(value.content if isinstance(value, Payload) else fetch(value))]
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return [str(value.dtype), value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    return value.tolist()


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else repr(key): _with_text_keys(inner) for key, inner in value.items()}
    return [_with_text_keys(inner) for inner in value] if isinstance(value, list | tuple) else value
