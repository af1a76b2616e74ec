"""Encoding and comparing answers: Python's equality where it is honest, and nothing that the other side controls."""

from __future__ import annotations

import json
import time
from collections import Counter, OrderedDict, deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylign.actors.sandbox.values import LONG, decode, encode, same, shortened, truthy

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
     ["c", "0x1p0"], ["b", 3], ["h"], ["o"], ["o", True, "A"], ["zz", []],
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
