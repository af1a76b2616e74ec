"""Encoding and comparing answers: Python's equality where it is honest, and nothing that the other side controls."""

from __future__ import annotations

import json
import time
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylign.actors.sandbox.values import LONG, decode, encode, same, shortened, truthy, uncomparable

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
hashable = st.recursive(scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=6)
values = st.recursive(
    scalars | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.sets(hashable, max_size=4)
        | st.dictionaries(hashable, inner, max_size=4)
    ),
    max_leaves=12,
)


def over_the_wire(value: Any) -> Any:
    return json.loads(json.dumps(encode(value)), object_pairs_hook=list)


@given(values)
def test_a_value_comes_back(value: Any) -> None:
    back = decode(over_the_wire(value))
    assert back == value and type(back) is type(value)
    assert same(encode(value), over_the_wire(value)) and truthy(over_the_wire(value)) == bool(value)


@given(values, values)
def test_same_is_equality(one: Any, other: Any) -> None:
    assert same(encode(one), over_the_wire(other)) == (one == other)


@pytest.mark.parametrize(
    ("expected", "got", "verdict"),
    [
        (1, 1.0, True),
        (1, True, True),
        ((1, 2), [1, 2], False),
        ({1, 2}, frozenset({2, 1}), True),
        ({1: "a", 2: "b"}, OrderedDict({2: "b", 1: "a"}), True),
        ([1, 2], deque([1, 2]), True),
        (Counter("aab"), {"a": 2, "b": 1}, True),
        (7, np.int64(7), True),
        ([1.5], np.array([1.5]), True),
        (10**400, 10**400, True),
        (10**400, 10**400 + 1, False),
        ("1", 1, False),
        (None, 0, False),
        (float("nan"), float("nan"), True),
        (float("nan"), 0.0, False),
        (float("inf"), float("inf"), True),
        ("\ud800", "\ud800", True),
        (object(), object(), False),
        ([{1: {2}}], [{1: {3}}], False),
    ],
)
def test_equality_across_types(expected: Any, got: Any, verdict: bool) -> None:
    assert same(encode(expected), over_the_wire(got)) is verdict


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("expected", "got", "verdict"),
    [
        (INF, INF, True), (INF, 1.0, False), (INF, 1e308, False), (INF, -INF, False), (-INF, INF, False),
        (-INF, -1e308, False), (1.0, INF, False), (NAN, NAN, True), (NAN, INF, False), (0.0, NAN, False),
        (complex(INF, 0), complex(INF, 5), False), (complex(INF, 0), 1 + 0j, False), (complex(NAN, 1), 1 + 1j, False),
        (1 + 1j, complex(1, 1 + 1e-9), True), (1 + 1j, 1.0, False), (1 + 0j, 1, True), (2 + 0j, 2 + 9e-8, False),
        (3, 3.0, True), (3, 3 + 9e-8, False), (3, 3 - 9e-8, False), (0, 9e-8, False), (0, -0.0, True),
        (3.0, 3, True), (3.0 + 9e-8, 3, False), (10**16, 1e16, True), (10**16 + 1, 1e16, False),
        (10**400, 1e308, False), (10**400, INF, False), (INF, 10**400, False), (2**53, 2.0**53 + 2, False),
        (True, 1, True), (True, 1.0, True), (True, 1.0000005, False), (False, 0.0000005, False), (False, -0.0, True),
        (True, 2, False), (1.0000005, True, False), (True, "True", False), (None, False, False), (None, NAN, False),
        (0.0, -0.0, True), (1e300, 1.00000001e300, True), (1e300, -1e300, False), (1.0, 1.0 + 9e-7, True),
        ([INF], [1.0], False), ({"a": (INF, 1)}, {"a": (-INF, 1)}, False), ([[3]], [[3 + 9e-8]], False),
        ((True,), (1.0000005,), False), ({"a": 1.0}, {"a": 1.0 + 1e-7}, True), ({1.0: "a"}, {1.0 + 1e-7: "a"}, False),
        ({1: "a"}, {True: "a"}, True), ({"1": 0}, {1: 0}, False), ({b"1": 0}, {"1": 0}, False),
        ({None: 0}, {0: 0}, False),
        ({1.0, 2}, {True, 2.0}, True), ({1.0}, {1.0 + 1e-7}, False), ({INF}, {1.0}, False), ({INF}, {-INF}, False),
        ({0.0}, {-0.0}, True), ({complex(0.0, 1)}, {complex(-0.0, 1)}, True), ({0.5}, {Fraction(1, 2)}, True),
        ({frozenset({1})}, {frozenset({True})}, True), ({(1, 2)}, {(2, 1)}, False), (set(), [], False),
        ({}, set(), False),
        ("a", b"a", False), (b"a", bytearray(b"a"), True), ("", b"", False), ([], (), False), ("ab", ["a", "b"], False),
        (7, np.int64(7), True), (7, np.float64(7 + 9e-8), False), (True, np.bool_(True), True), (7, np.uint8(7), True),
        (1.5, np.float32(1.5), True), (INF, np.float64(INF), True), (INF, np.float64(5), False),
        ("a", np.str_("a"), True),
        (b"a", np.bytes_(b"a"), True), ([1, 2], np.array([1, 2]), True), ([1, 2], np.array([1.00000009, 2]), False),
        (1 + 2j, np.complex128(1 + 2j), True), (0.5, Fraction(1, 2), True), (0.1, Decimal("0.1"), False),
        (3, Decimal("3.00"), True), (3, Decimal("3.00000009"), False), (INF, Decimal("inf"), True),
        (Fraction(1, 3), Fraction(2, 6), True), (Fraction(1, 3), 1 / 3, False), (Decimal("0.5"), 0.5, True),
    ],
)  # fmt: skip
def test_the_tolerance_is_for_two_finite_floats(expected: Any, got: Any, verdict: bool) -> None:
    assert same(encode(expected), over_the_wire(got), 1e-6) is verdict


def test_a_long_answer_is_judged_as_a_short_one() -> None:
    """Digests know neither tolerance nor order of their own."""
    numbers = [number / 3 for number in range(LONG // 16)]
    near = [number + 1e-9 for number in numbers]
    assert same(shortened(encode(numbers)), shortened(encode(near)), 1e-6)
    assert not same(shortened(encode(numbers)), shortened(encode([*near[:-1], 0.0])), 1e-6)
    whole = list(range(LONG // 4))
    assert same(shortened(encode(whole)), shortened(encode(tuple(reversed(whole)))), unordered=True)
    assert not same(shortened(encode(whole)), shortened(encode(whole[:-1])), unordered=True)
    assert not same(shortened(encode(whole)), shortened(encode(tuple(whole))))


def test_an_object_that_equals_nothing_is_named() -> None:
    assert uncomparable(encode([{1: object()}])) == "object" and uncomparable(encode([{1: (2.5, "o")}])) == ""


def test_tolerance_is_for_floats_alone() -> None:
    assert same(encode(1.0), encode(1.0 + 1e-7), 1e-6) and not same(encode(1.0), encode(1.001), 1e-6)
    assert same(encode([(1.0, "a")]), encode([(1.0000001, "a")]), 1e-6)
    assert not same(encode(10**9), encode(10**9 + 1), 1e-6)
    assert not same(encode(1.0), encode(1.0000001), 0.0)


def test_unordered_compares_as_sets() -> None:
    assert same(encode((4, 5)), encode([5, 4, 4]), unordered=True)
    assert not same(encode((4, 5)), encode((5,)), unordered=True)
    assert not same(encode([(4, 5)]), encode([(5, 4)]), unordered=True), "only the top"


def test_long_values_become_digests() -> None:
    long = list(range(LONG))
    assert shortened(encode(long))[0] == "h" and shortened(encode([1])) == encode([1])
    assert same(shortened(encode(long)), shortened(encode(list(long))))
    assert not same(shortened(encode(long)), shortened(encode([*long[:-1], 0])))
    assert not same(shortened(encode(long)), encode([1]))


@pytest.mark.parametrize(
    "data",
    [[], [[]], ["t"], ["t", 1], ["l", None], ["d", [[1]]], ["d", [1]], ["s", 4], ["i", "x"], ["i", 5], ["f", "1e9999x"],
     ["c", "0x1p0"], ["b", 3], ["h"], ["h", 3], ["q", "0x1", "0x0"], ["q", "0x1"], ["q", "0x" + "f" * 99999, "0x3"],
     ["o"], ["o", True, "A"], ["zz", []],
     [["t", []], 1], {"a": 1}, ["i", "0x" + "f" * 9]],
)  # fmt: skip
def test_what_is_no_encoding_equals_nothing(data: Any) -> None:
    for expected in (encode(4), encode((1, 2)), encode({1: 2}), encode({1}), encode(b"x"), encode([]), encode(None)):
        assert same(expected, data) is False and same(expected, data, 1e-6, unordered=True) is False
    assert truthy(data) in (True, False)


def test_a_hostile_answer_costs_little() -> None:
    """Keys that collide in a hash table are never put into one; nesting ends in False."""
    colliding = ["s", [["i", hex(number * (2**61 - 1))] for number in range(50_000)]]
    started = time.process_time()
    assert same(encode({1}), colliding) is False
    deep: Any = 1
    for _ in range(100_000):
        deep = ["l", [deep]]
    assert same(deep, deep) is False, "too deep to be judged"
    assert time.process_time() - started < 20  # quadratic would be minutes
