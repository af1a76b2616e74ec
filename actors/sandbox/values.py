"""Values between a program and its checker, as plain data: encoding, and a comparison that trusts nothing.

A value is JSON: ``null``, booleans, integers, texts; everything else is a list that begins with a tag. The checker
never builds the program's objects from it, so there is no ``__eq__``, ``__reduce__`` or hash of the program's to call,
nor a set of its choosing to be slow with.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from itertools import groupby
from typing import Any

LONG = 1 << 16  # characters of JSON
LARGE = 1 << 53  # JSON readers disagree beyond; and int() of many decimal digits is slow


def encode(value: Any) -> Any:
    """Plain data for a value. Subclasses of the built-in containers count as these. Raises RecursionError.

    Example: ``encode((1, {2.5})) == ["t", [1, ["s", [["f", "0x1.4000000000000p+1"]]]]]``
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < LARGE else ["i", hex(value)]
    if isinstance(value, str):
        return str(value)
    return _encode_tagged(value)


def _encode_tagged(value: Any) -> Any:
    if isinstance(value, float):
        return ["f", float(value).hex()]
    if isinstance(value, complex):
        return ["c", value.real.hex(), value.imag.hex()]
    if isinstance(value, bytes | bytearray):
        return ["b", bytes(value).hex()]
    for kind, tag in ((tuple, "t"), (list, "l"), (set, "s"), (frozenset, "s")):
        if isinstance(value, kind):
            return [tag, [encode(item) for item in value]]
    if isinstance(value, Mapping):
        return ["d", [[encode(key), encode(item)] for key, item in value.items()]]
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return encode(value.tolist())
    if type(value).__module__ == "collections" and type(value).__name__ == "deque":
        return ["l", [encode(item) for item in value]]
    return ["o", bool(value), type(value).__name__]  # opaque: true or false, and equal to nothing


def decode(data: Any) -> Any:
    """The value. For trusted data only: it builds sets and dicts. Raises ValueError on anything that is no encoding."""
    if not isinstance(data, list):
        return data
    tag, *rest = data
    if tag == "i":
        return int(rest[0], 16)
    if tag == "f":
        return float.fromhex(rest[0])
    if tag == "c":
        return complex(float.fromhex(rest[0]), float.fromhex(rest[1]))
    if tag == "b":
        return bytes.fromhex(rest[0])
    if tag in ("t", "l", "s"):
        return {"t": tuple, "l": list, "s": set}[tag](decode(item) for item in rest[0])
    if tag == "d":
        return {decode(key): decode(item) for key, item in rest[0]}
    raise ValueError(f"unknown tag {tag!r}")


def shortened(data: Any) -> Any:
    """The encoded value, or in its place a digest when it is long: equal to that of an equal value, tolerance aside."""
    if not isinstance(data, list) or len(json.dumps(data)) <= LONG:
        return data
    return ["h", hashlib.sha256(_key(data).encode()).hexdigest()]


def same(expected: Any, got: Any, tolerance: float = 0.0, unordered: bool = False) -> bool:
    """Whether two encoded values are equal as Python's ``==`` has it; False for data that is no encoding.

    tolerance: absolute, between floats (and between a float and an integer), beside 1e-7 relative, as EvalPlus does.
    unordered: lists and tuples at the top are compared as sets.
    """
    try:
        if unordered:
            expected, got = _as_set(expected), _as_set(got)
        return _same(expected, got, tolerance)
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, RecursionError):
        return False


def truthy(data: Any) -> bool:
    """``bool`` of an encoded value."""
    if not isinstance(data, list):
        return bool(data)
    if data and data[0] == "o":
        return data[1] is True
    if data and data[0] == "h":
        return True
    if data and data[0] in ("t", "l", "s", "d", "b"):
        return len(data[1]) > 0
    return bool(decode(data))


def _same(expected: Any, got: Any, tolerance: float) -> bool:
    first, second = _number(expected), _number(got)
    if first is not None or second is not None:
        return first is not None and second is not None and _close(first, second, tolerance)
    if not isinstance(expected, list) or not isinstance(got, list):
        return type(expected) is type(got) and bool(expected == got)
    if expected[0] != got[0] or expected[0] == "o":
        return False
    if expected[0] in ("b", "h"):
        return bool(expected[1] == got[1])
    left, right = expected[1], got[1]
    if not isinstance(right, list):
        return False
    if expected[0] == "s":
        return _distinct(left) == _distinct(right)
    if len(left) != len(right):
        return False
    if expected[0] == "d":
        pairs = [sorted(((_key(key), value) for key, value in side), key=lambda pair: pair[0]) for side in (left, right)]
        return all(
            one[0] == other[0] and _same(one[1], other[1], tolerance) for one, other in zip(*pairs, strict=True)
        )
    return all(_same(one, other, tolerance) for one, other in zip(left, right, strict=True))


def _number(data: Any) -> int | float | complex | None:
    if isinstance(data, bool | int | float):
        return data
    if isinstance(data, list) and data and data[0] in ("i", "f", "c"):
        found: int | float | complex = decode(data)
        return found
    return None


def _close(expected: complex, got: complex, tolerance: float) -> bool:
    if expected == got:
        return True
    if isinstance(expected, int) and isinstance(got, int):
        return False
    if any(isinstance(number, float) and math.isnan(number) for number in (expected, got)):
        return expected != expected and got != got  # NaN is a right answer where NaN is expected
    return tolerance > 0 and abs(expected - got) <= tolerance + 1e-7 * abs(expected)


def _key(data: Any) -> str:
    """A text that is the same for equal values. Sets are compared by sorted texts: hashing could be made slow."""
    number = _number(data)
    if number is not None:
        return _number_key(number)
    if not isinstance(data, list) or data[0] in ("b", "h"):
        return json.dumps(data)
    if data[0] == "o":
        raise ValueError("an opaque object is equal to nothing")
    parts = [_key(pair[0]) + ":" + _key(pair[1]) if data[0] == "d" else _key(pair) for pair in data[1]]
    if data[0] in ("s", "d"):
        parts = [text for text, _ in groupby(sorted(parts))]
    return f"{data[0]}[{','.join(parts)}]"


def _number_key(number: complex) -> str:
    if isinstance(number, complex):
        return f"({number.real!r},{number.imag!r})" if number.imag else _number_key(number.real)
    if isinstance(number, float) and not (math.isfinite(number) and number == int(number)):
        return repr(number)
    return hex(int(number))


def _distinct(items: list[Any]) -> list[str]:
    return [text for text, _ in groupby(sorted(_key(item) for item in items))]


def _as_set(data: Any) -> Any:
    if isinstance(data, list) and data and data[0] in ("t", "l"):
        return ["s", data[1]]
    return data
