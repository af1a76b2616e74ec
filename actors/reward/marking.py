"""Marks an answer against the answer sheet's: structure by structure, leaf by leaf.

| gold                   | counts                                          | does not                       |
|------------------------|-------------------------------------------------|--------------------------------|
| ``1,2`` (a list)       | the same in any order, with or without braces   | a part of it, ``(1,2)``        |
| ``2 red, 3 blue``      | the same in any order, ``2, 3`` in this one     | ``3 red, 2 blue``, ``3, 2``    |
| ``(1,2)``              | the same in order, the brackets left out too    | ``[1,2]``, ``(2,1)``, a set    |
| ``x<1 or x>2``, unions | the same numbers: relations, sets, intervals    | another bracket, "and"         |
| ``red or blue``        | the same in any order                           | ``red and blue``               |
| ``x=5``                | ``5``, ``5=x``                                  | ``y=5``, ``X=5``               |
| ``2x+3=y``             | both sides moved or multiplied                  | one side of it                 |

Where it is in doubt whether two answers are the same, they are not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from raylign.actors.reward import expressions
from raylign.actors.reward.cost import TooCostly
from raylign.actors.reward.quantities import label
from raylign.actors.reward.spelling import spelled, split_top, squashed, unmarked
from raylign.actors.reward.structure import UNORDERED, Answer, taken_apart
from raylign.actors.reward.worth import same_leaf

LONGEST_LIST = 64  # entries; longer lists are compared as texts
OWN_KIND = ("union", "either")  # which no list is the same as


@lru_cache(maxsize=4096)
def equal(gold: str, answer: str) -> bool:
    """Whether two answers in LaTeX (without a box) are the same. Cached: samples of a group repeat.

    Raises ValueError when the gold answer cannot be compared with anything. Whatever else fails is a wrong answer.
    """
    if _unspaced(gold) == _unspaced(answer):
        return True
    gold_text, answer_text = spelled(gold), spelled(answer)
    if unmarked(squashed(gold_text)) == unmarked(squashed(answer_text)):
        return True
    structure = taken_apart(gold_text)
    try:
        return _same(structure, taken_apart(answer_text))
    except Exception as error:
        # sympy raises anything, also for an answer that is mathematics
        if isinstance(error, TooCostly) or not all(map(expressions.comparable, _leaves(structure))):
            raise ValueError(f"the gold answer {gold[:80]!r} cannot be compared: {error}"[:300]) from error
        return False


def _unspaced(text: str) -> str:
    """Without the spaces behind commas, which say whether ``100,200`` is one number."""
    return re.sub(r",\s+", ",", text.strip())


def _same(gold: Answer, answer: Answer) -> bool:
    if gold.name and answer.name and gold.name != answer.name:
        return _same_equations(gold, answer)
    if gold.kind == answer.kind == "leaf":
        return _same_leaves(gold, answer)
    if gold.kind in UNORDERED and answer.kind in UNORDERED:
        alike = gold.kind == answer.kind or not {gold.kind, answer.kind} & set(OWN_KIND)
        return alike and _same_set(gold.items, answer.items)
    if "leaf" in (gold.kind, answer.kind):
        return _same_alone(gold, answer)
    return _same_tuples(gold, answer)


def _same_alone(gold: Answer, answer: Answer) -> bool:
    """A leaf and a list of one."""
    if gold.kind == "leaf":
        return answer.kind in UNORDERED and len(answer.items) == 1 and _same(gold, answer.items[0])
    return gold.kind in UNORDERED and len(gold.items) == 1 and _same(gold.items[0], answer)


def _same_tuples(gold: Answer, answer: Answer) -> bool:
    """In order; a list counts for a pair, and the solution ``y=2, x=1`` in the order of its names."""
    if gold.kind == "()" and answer.kind == "list":
        return _same_row(gold.items, _by_name(answer.items))
    if gold.kind == "list" and answer.kind == "()" and all(item.name for item in gold.items):
        return _same_row(_by_name(gold.items), answer.items)
    return gold.kind == answer.kind and _same_row(gold.items, answer.items)


def _same_row(gold: Sequence[Answer], answer: Sequence[Answer]) -> bool:
    return len(gold) == len(answer) and all(_same(*pair) for pair in zip(gold, answer, strict=True))


def _by_name(items: Sequence[Answer]) -> Sequence[Answer]:
    """``y=2, x=1`` in the order of the names, as a pair without names gives its values."""
    return sorted(items, key=lambda item: item.name) if all(item.name for item in items) else items


def _same_set(gold: Sequence[Answer], answer: Sequence[Answer]) -> bool:
    """Each of the one is among the other; what is said twice counts once."""
    if max(len(gold), len(answer)) > LONGEST_LIST:
        return False
    labels, given = _labels(gold), _labels(answer)
    if len(set(labels)) > 1 and (len(set(given)) != len(answer) or not all(given)):
        return not any(given) and _same_row(gold, answer)
    if _same_row(gold, answer):
        return True
    return all(any(_same(expected, other) for other in answer) for expected in gold) and all(
        any(_same(expected, other) for expected in gold) for other in answer
    )


def _labels(items: Sequence[Answer]) -> list[tuple[str, ...]]:
    return [label(item.text) if item.kind == "leaf" else () for item in items]


def _same_leaves(gold: Answer, answer: Answer) -> bool:
    sides, given = split_top(gold.text, ("=",)), split_top(answer.text, ("=",))
    if gold.name and len(given) > 1:
        return _same_equations(gold, answer)
    if len(sides) == 1 and len(given) > 1:
        return same_leaf(sides[0], given[-1])  # 5 <- 2+3=5
    if len(sides) == len(given) == 1:
        return same_leaf(gold.text, answer.text)
    if len(sides) > 2 and len(sides) > len(given):
        return same_leaf(sides[-1], given[-1])
    return _same_equations(gold, answer)


def _same_equations(gold: Answer, answer: Answer) -> bool:
    return gold.kind == answer.kind == "leaf" and expressions.same(_whole(gold), _whole(answer))


def _whole(answer: Answer) -> str:
    return f"{answer.name}={answer.text}" if answer.name else answer.text


def _leaves(answer: Answer) -> list[str]:
    if answer.kind == "leaf":
        return [answer.text]
    return [text for item in answer.items for text in _leaves(item)]
