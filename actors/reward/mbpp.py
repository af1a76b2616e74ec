"""MBPP+ rows as calls of a function: EvalPlus keeps arguments as JSON, and what JSON lost is read off the assertions.

The columns (EvalPlus v0.2): ``entry_point``, ``base_input`` and ``plus_input`` (lists of argument lists), ``assertion``
(the base tests as source), ``atol``, ``canonical_solution``. JSON has no tuples, sets and complex numbers. The base
tests are taken from the assertions, where they are literals; each further argument gets the types that the literals at
the same place have.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeGuard

from raylign.actors.sandbox.values import encode

FLOAT_TOLERANCE = 1e-6  # EvalPlus's, where a row gives none


class Comparison(Enum):
    """How an answer is held against the reference's."""

    equal = "equal"
    unordered = "unordered"  # the row's own test compares set(...) with set(...)
    truth = "truth"  # the row's own test is ``assert f(x)``


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The calls that test a function.

    Example: ``Calls(entry="f", arguments=(["l", [3]],), comparison=Comparison.equal, tolerance=1e-6)``
    """

    entry: str
    arguments: tuple[Any, ...]  # encoded argument lists
    comparison: Comparison
    tolerance: float  # absolute, between floats


def calls_of(row: Mapping[str, Any], plus: bool = True) -> Calls:
    """All calls of a row; plus: the further ones, too. Raises ValueError that names what is missing or unreadable."""
    missing = [name for name in ("entry_point", "base_input", "assertion") if name not in row]
    if missing:
        raise ValueError(f"the prompt has no {missing[0]!r}: unit tests need rows in MBPP+'s format")
    entry = str(row["entry_point"])
    examples = list(_literal_calls(str(row["assertion"]), entry))
    further = [] if not plus else list(row.get("plus_input") or [])
    retyped = [list(_like(list(arguments), examples)) for arguments in further]
    _restore_complex(retyped, examples)
    return Calls(
        entry=entry,
        arguments=tuple(encode(list(arguments)) for arguments in (*examples, *retyped)),
        comparison=_comparison(f"{row['assertion']}\n{_asserts(str(row.get('prompt', '')))}", entry),
        tolerance=float(row.get("atol") or FLOAT_TOLERANCE),
    )


def _literal_calls(assertion: str, entry: str) -> Iterator[tuple[Any, ...]]:
    """The arguments of each call of the function. Raises ValueError on source that is none or arguments not literal."""
    try:
        tree = ast.parse(assertion)
        for node in ast.walk(tree):
            if _calls(node, entry):
                yield tuple(_literal(argument) for argument in node.args)
    except SyntaxError as error:
        raise ValueError(f"the assertions of {entry} are no Python: {error}") from error


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _literal(node.left) * _literal(node.right)
    return ast.literal_eval(node)


def _calls(node: ast.AST, entry: str) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == entry


def _comparison(source: str, entry: str) -> Comparison:
    for statement in ast.parse(source).body:
        if not isinstance(statement, ast.Assert):
            continue
        test = statement.test
        if _calls(test, entry) or (isinstance(test, ast.UnaryOp) and _calls(test.operand, entry)):
            return Comparison.truth
        for node in ast.walk(test):
            if _calls(node, "set") and any(_calls(argument, entry) for argument in node.args):
                return Comparison.unordered
    return Comparison.equal


def _asserts(prompt: str) -> str:
    return "\n".join(line for line in prompt.splitlines() if line.startswith("assert "))


def _restore_complex(calls: list[list[Any]], examples: Sequence[Any]) -> None:
    """A place that has numbers in every example and else only texts that read as complex numbers: they are these."""
    for place in range(min(map(len, examples))):
        if not all(isinstance(example[place], int | float | complex) for example in examples):
            continue
        texts = [(call, call[place]) for call in calls if place < len(call) and isinstance(call[place], str)]
        try:
            numbers = [complex(text) for _, text in texts]
        except ValueError:
            continue
        for (call, _), number in zip(texts, numbers, strict=True):
            call[place] = number


def _like(value: Any, examples: Sequence[Any], around: type = list) -> Any:
    """The JSON value with the types of the examples, which stand at the same place in other calls.

    around: what a list becomes where no example has a sequence: the type of what holds it.
    """
    if isinstance(value, dict):
        inner = [item for example in examples if isinstance(example, dict) for item in example.values()]
        return {key: _like(item, inner, around) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    alike = [example for example in examples if isinstance(example, list | tuple | set | frozenset)]
    kinds = {type(example) for example in alike}
    kind: Any = kinds.pop() if len(kinds) == 1 else list if kinds else around
    ordered = [example for example in alike if not isinstance(example, set | frozenset)]
    if ordered and all(len(example) == len(value) for example in ordered):
        return kind(_like(item, [example[place] for example in ordered], kind) for place, item in enumerate(value))
    pooled = [item for example in alike for item in example]
    return kind(_like(item, pooled, kind) for item in value)
