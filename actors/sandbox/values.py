"""Values between a program and its checker, as plain data: encoding, and a comparison that trusts nothing.

A value is JSON: ``null``, booleans, small integers, texts; everything else is a list that begins with a tag: ``i``
(hexadecimal integer), ``f`` float, ``c`` complex, ``q`` fraction, ``b`` bytes, ``t`` tuple, ``l`` list, ``s`` set,
``z`` frozen set, ``d`` mapping (pairs), ``o`` another object (only its truth), ``h`` (two digests of a long value: as
it is, and as a set). The checker never builds the program's objects from it, so there is no ``__eq__``,
``__reduce__`` or hash of the program's to call, nor a set of its choosing to be slow with.

What counts as equal is Python's ``==`` (so ``True == 1 == 1.0`` and ``Decimal("0.5") == 0.5``, but no text equals
bytes and no tuple a list), with EvalPlus's tolerance for two finite floats and for nothing else: not for integers,
booleans, infinities, what stands in a set or is a key. Beyond EvalPlus, the tolerance reaches floats at any depth of
lists, tuples and mapping values, NaN is right where NaN is expected, and NumPy's scalars and arrays count as numbers
and lists.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from typing import Any

LONG = 1 << 16  # characters of JSON
DIGITS = 4096  # hexadecimal, of a fraction's parts: reducing it takes quadratic time
RELATIVE = 1e-7  # of the expected float, beside the absolute tolerance; EvalPlus's
LARGE = 1 << 53  # JSON readers disagree beyond; and int() of many decimal digits is slow
UNREADABLE = (ValueError, TypeError, IndexError, KeyError, ArithmeticError, RecursionError)
NUMBERS = ("i", "f", "c", "q")
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
    if isinstance(value, float):
        return ["f", float(value).hex()]
    for kind, tag in SEQUENCES:
        if isinstance(value, kind):
            return [tag, [encode(item) for item in value]]
    return _encode_other(value)


def _encode_exact(value: Fraction | Decimal) -> Any:
    if isinstance(value, Decimal) and not value.is_finite():
        return encode(float(value))
    return ["q", *map(hex, value.as_integer_ratio())]


def _encode_other(value: Any) -> Any:
    if isinstance(value, complex):
        return ["c", value.real.hex(), value.imag.hex()]
    if isinstance(value, bytes | bytearray):
        return ["b", bytes(value).hex()]
    if isinstance(value, Mapping):
        return ["d", [[encode(key), encode(item)] for key, item in value.items()]]
    if isinstance(value, Fraction | Decimal):
        return _encode_exact(value)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist") and type(value.tolist()) is not type(value):
        return encode(value.tolist())
    return ["o", bool(value), type(value).__name__]  # equal to nothing


def _fraction(over: str, under: str) -> Fraction:
    if len(over) > DIGITS or len(under) > DIGITS:
        raise ValueError("a fraction of so many digits is not reduced")
    return Fraction(int(over, 16), int(under, 16))


_DECODERS: Mapping[str, Callable[..., Any]] = {
    "i": lambda text: int(text, 16),
    "f": float.fromhex,
    "c": lambda real, imaginary: complex(float.fromhex(real), float.fromhex(imaginary)),
    "q": _fraction,
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
    """The encoded value, or in its place digests when it is long: equal to those of an equal value.

    A value that holds a float which is no whole number stays long: digests know no tolerance.
    """
    if not isinstance(data, list) or len(json.dumps(data)) <= LONG or _tolerant(data):
        return data
    return ["h", *(hashlib.sha256(_key(form).encode()).hexdigest() for form in (data, _as_set(data)))]


def _tolerant(data: Any) -> bool:
    """Whether a float stands in it to which a tolerance applies."""
    if not isinstance(data, list) or not data:
        return False
    if data[0] in ("f", "c"):
        return True
    return any(_tolerant(item) for item in data if isinstance(item, list))


def uncomparable(data: Any) -> str:
    """The type of an object in the encoded value that equals nothing, not even itself; empty without one."""
    if not isinstance(data, list) or not data:
        return ""
    if data[0] == "o":
        return str(data[2])
    return next((name for item in data if isinstance(item, list) and (name := uncomparable(item))), "")


def same(expected: Any, got: Any, tolerance: float = 0.0, unordered: bool = False) -> bool:
    """Whether two encoded values are equal; see the top of this file. False for data that is no encoding.

    tolerance: absolute, between two floats, beside `RELATIVE`; at 0 they must be equal.
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
        if tag in NUMBERS:
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
        wanted, given = _by_key(expected), _by_key(got)
        return [key for key, _ in wanted] == [key for key, _ in given] and all(
            _same(left, right, tolerance) for (_, left), (_, right) in zip(wanted, given, strict=True)
        )
    return all(_same(left, right, tolerance) for left, right in zip(expected, got, strict=True))


def _number(data: Any) -> int | float | complex | Fraction | None:
    if isinstance(data, bool | int | float):
        return data
    if isinstance(data, list) and data and data[0] in NUMBERS:
        number: int | float | complex | Fraction = decode(data)
        return number
    return None


def _close(expected: complex | Fraction, got: complex | Fraction, tolerance: float) -> bool:
    """Exactly equal as numbers; two floats (and the parts of two complex numbers) also within the tolerance."""
    if expected == got:
        return True
    if type(expected) is not type(got):
        return False
    if isinstance(expected, complex) and isinstance(got, complex):
        return _close(expected.real, got.real, tolerance) and _close(expected.imag, got.imag, tolerance)
    if not isinstance(expected, float) or not isinstance(got, float):
        return False
    if not math.isfinite(expected) or not math.isfinite(got):
        return math.isnan(expected) and math.isnan(got)  # NaN is a right answer where NaN is expected
    return tolerance > 0 and abs(expected - got) <= tolerance + RELATIVE * abs(expected)


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


def _number_key(number: complex | Fraction) -> str:
    if isinstance(number, complex):
        if number.imag == 0:
            return _number_key(number.real)
        return f"({_number_key(number.real)},{_number_key(number.imag)})"
    if isinstance(number, int) or (isinstance(number, Fraction) and number.denominator == 1):
        return hex(int(number))
    if isinstance(number, float) and not math.isfinite(number):
        return repr(number)
    exact = Fraction(number)  # a float is one, too: 0.5 and Fraction(1, 2) are one key
    return f"{exact.numerator:x}/{exact.denominator:x}" if exact.denominator > 1 else hex(exact.numerator)


def _distinct(items: list[Any]) -> list[str]:
    return [text for text, _ in groupby(sorted(_key(item) for item in items))]


def _by_key(pairs: list[Any]) -> list[tuple[str, Any]]:
    return sorted(((_key(key), value) for key, value in pairs), key=lambda pair: pair[0])


def _as_set(data: Any) -> Any:
    if isinstance(data, list) and data and data[0] in ("t", "l"):
        return ["s", data[1]]
    return ["h", data[2]] if isinstance(data, list) and data and data[0] == "h" else data
