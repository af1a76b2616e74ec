"""Values between a program and its checker, as plain data: encoding, and a comparison that trusts nothing.

A value is JSON: ``null``, booleans, small integers, texts; everything else is a list that begins with a tag: ``i``
(hexadecimal integer), ``f`` float, ``c`` complex, ``b`` bytes, ``t`` tuple, ``l`` list, ``s`` set, ``z`` frozen set,
``d`` mapping (pairs), ``o`` another object (only its truth), ``h`` (the digest of a long value). The checker never
builds the program's objects from it, so there is no ``__eq__``, ``__reduce__`` or hash of the program's to call, nor
a set of its choosing to be slow with.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

LONG = 1 << 16  # characters of JSON
LARGE = 1 << 53  # JSON readers disagree beyond; and int() of many decimal digits is slow
UNREADABLE = (ValueError, TypeError, IndexError, KeyError, OverflowError, RecursionError)
SEQUENCES = ((tuple, "t"), (list, "l"), (set, "s"), (frozenset, "z"), (deque, "l"))


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
    for kind, tag in SEQUENCES:
        if isinstance(value, kind):
            return [tag, [encode(item) for item in value]]
    return _encode_other(value)


def _encode_other(value: Any) -> Any:
    if isinstance(value, float):
        return ["f", float(value).hex()]
    if isinstance(value, complex):
        return ["c", value.real.hex(), value.imag.hex()]
    if isinstance(value, bytes | bytearray):
        return ["b", bytes(value).hex()]
    if isinstance(value, Mapping):
        return ["d", [[encode(key), encode(item)] for key, item in value.items()]]
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return encode(value.tolist())
    return ["o", bool(value), type(value).__name__]  # equal to nothing


_DECODERS: Mapping[str, Callable[..., Any]] = {
    "i": lambda text: int(text, 16),
    "f": float.fromhex,
    "c": lambda real, imaginary: complex(float.fromhex(real), float.fromhex(imaginary)),
    "b": bytes.fromhex,
    "t": lambda items: tuple(decode(item) for item in items),
    "l": lambda items: [decode(item) for item in items],
    "s": lambda items: {decode(item) for item in items},
    "z": lambda items: frozenset(decode(item) for item in items),
    "d": lambda pairs: {decode(key): decode(item) for key, item in pairs},
}


def decode(data: Any) -> Any:
    """The value. For trusted data: it builds sets and dicts. Raises KeyError, TypeError, ValueError on no encoding."""
    return _DECODERS[data[0]](*data[1:]) if isinstance(data, list) else data


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
    except UNREADABLE:
        return False


def truthy(data: Any) -> bool:
    """``bool`` of an encoded value; False for data that is no encoding."""
    try:
        if not isinstance(data, list):
            return bool(data)
        tag, content = data[0], data[1]
        if tag in ("i", "f", "c"):
            return bool(decode(data))
        return content is True if tag == "o" else len(content) > 0
    except UNREADABLE:
        return False


def _same(expected: Any, got: Any, tolerance: float) -> bool:
    first, second = _number(expected), _number(got)
    if first is not None or second is not None:
        return first is not None and second is not None and _close(first, second, tolerance)
    if not isinstance(expected, list) or not isinstance(got, list):
        return type(expected) is type(got) and bool(expected == got)
    tag, other = ("s" if kind == "z" else kind for kind in (expected[0], got[0]))
    return tag == other and _same_content(tag, expected[1], got[1], tolerance)


def _same_content(tag: str, expected: Any, got: Any, tolerance: float) -> bool:
    if tag in ("b", "h"):
        return bool(expected == got)
    if tag == "o" or not isinstance(got, list):
        return False
    if tag == "s":
        return _distinct(expected) == _distinct(got)
    if len(expected) != len(got):
        return False
    if tag == "d":
        wanted, found = _by_key(expected), _by_key(got)
        return [key for key, _ in wanted] == [key for key, _ in found] and all(
            _same(one, other, tolerance) for (_, one), (_, other) in zip(wanted, found, strict=True)
        )
    return all(_same(one, other, tolerance) for one, other in zip(expected, got, strict=True))


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
    if isinstance(expected, float) and math.isnan(expected):
        return isinstance(got, float) and math.isnan(got)  # NaN is a right answer where NaN is expected
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
    if data[0] in ("s", "z"):
        return f"s[{','.join(_distinct(data[1]))}]"
    if data[0] == "d":
        return f"d[{','.join(f'{key}:{_key(value)}' for key, value in _by_key(data[1]))}]"
    return f"{data[0]}[{','.join(_key(item) for item in data[1])}]"


def _number_key(number: complex) -> str:
    if isinstance(number, complex):
        return f"({number.real!r},{number.imag!r})" if number.imag else _number_key(number.real)
    if isinstance(number, float) and not (math.isfinite(number) and number == int(number)):
        return repr(number)
    return hex(int(number))


def _distinct(items: list[Any]) -> list[str]:
    return [text for text, _ in groupby(sorted(_key(item) for item in items))]


def _by_key(pairs: list[Any]) -> list[tuple[str, Any]]:
    return sorted(((_key(key), value) for key, value in pairs), key=lambda pair: pair[0])


def _as_set(data: Any) -> Any:
    if isinstance(data, list) and data and data[0] in ("t", "l"):
        return ["s", data[1]]
    return data
