"""Types of settings as a reader of YAML would say them."""

from __future__ import annotations

import enum
import types
import typing
from typing import Any


def type_name(hint: Any) -> str:
    """A type in words, e.g. "a whole number"."""
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return f"one of {', '.join(item.name for item in hint)}"
    origin, within = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return f"a list of {type_name(within[0])}"
    if origin in (types.UnionType, typing.Union):
        return " or ".join("null" if item is type(None) else type_name(item) for item in within)
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "a mapping"}
    return names.get(origin or hint, str(hint))
