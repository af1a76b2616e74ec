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
def equal(gold: str, found: str) -> bool:
    """Whether two answers in LaTeX (without a box) are the same. Cached: samples of a group repeat.

    Raises ValueError when the gold answer cannot be compared with anything. Whatever else fails is a wrong answer.
    """
    if _unspaced(gold) == _unspaced(found):
        return True
    sheet, answer = spelled(gold), spelled(found)
    if unmarked(squashed(sheet)) == unmarked(squashed(answer)):
        return True
    structure = taken_apart(sheet)
    try:
        return _same(structure, taken_apart(answer))
    except Exception as error:
        # sympy raises anything, also for an answer that is mathematics
        if isinstance(error, TooCostly) or not all(map(expressions.comparable, _leaves(structure))):
            raise ValueError(f"the gold answer {gold[:80]!r} cannot be compared: {error}"[:300]) from error
        return False


def _unspaced(text: str) -> str:
    """Without the spaces behind commas, which say whether ``100,200`` is one number."""
    return re.sub(r",\s+", ",", text.strip())


def _same(gold: Answer, found: Answer) -> bool:
    if gold.name and found.name and gold.name != found.name:
        return _same_equations(gold, found)
    if gold.kind == found.kind == "leaf":
        return _same_leaves(gold, found)
    if gold.kind in UNORDERED and found.kind in UNORDERED:
        alike = gold.kind == found.kind or not {gold.kind, found.kind} & set(OWN_KIND)
        return alike and _same_set(gold.items, found.items)
    if "leaf" in (gold.kind, found.kind):
        return _same_alone(gold, found)
    return _same_tuples(gold, found)


def _same_alone(gold: Answer, found: Answer) -> bool:
    """A leaf and a list of one."""
    if gold.kind == "leaf":
        return found.kind in UNORDERED and len(found.items) == 1 and _same(gold, found.items[0])
    return gold.kind in UNORDERED and len(gold.items) == 1 and _same(gold.items[0], found)


def _same_tuples(gold: Answer, found: Answer) -> bool:
    """In order; a list counts for a pair, and the solution ``y=2, x=1`` in the order of its names."""
    if gold.kind == "()" and found.kind == "list":
        return _same_row(gold.items, _by_name(found.items))
    if gold.kind == "list" and found.kind == "()" and all(item.name for item in gold.items):
        return _same_row(_by_name(gold.items), found.items)
    return gold.kind == found.kind and _same_row(gold.items, found.items)


def _same_row(gold: Sequence[Answer], found: Sequence[Answer]) -> bool:
    return len(gold) == len(found) and all(_same(*pair) for pair in zip(gold, found, strict=True))


def _by_name(items: Sequence[Answer]) -> Sequence[Answer]:
    """``y=2, x=1`` in the order of the names, as a pair without names gives its values."""
    return sorted(items, key=lambda item: item.name) if all(item.name for item in items) else items


def _same_set(gold: Sequence[Answer], found: Sequence[Answer]) -> bool:
    """Each of the one is among the other; what is said twice counts once."""
    if max(len(gold), len(found)) > LONGEST_LIST:
        return False
    labels, given = _labels(gold), _labels(found)
    if len(set(labels)) > 1 and (len(set(given)) != len(found) or not all(given)):
        return not any(given) and _same_row(gold, found)
    if _same_row(gold, found):
        return True
    return all(any(_same(one, other) for other in found) for one in gold) and all(
        any(_same(one, other) for one in gold) for other in found
    )


def _labels(items: Sequence[Answer]) -> list[tuple[str, ...]]:
    return [label(item.text) if item.kind == "leaf" else () for item in items]


def _same_leaves(gold: Answer, found: Answer) -> bool:
    sides, given = split_top(gold.text, ("=",)), split_top(found.text, ("=",))
    if gold.name and len(given) > 1:
        return _same_equations(gold, found)
    if len(sides) == 1 and len(given) > 1:
        return same_leaf(sides[0], given[-1])  # 5 <- 2+3=5
    if len(sides) == len(given) == 1:
        return same_leaf(gold.text, found.text)
    if len(sides) > 2 and len(sides) > len(given):
        return same_leaf(sides[-1], given[-1])
    return _same_equations(gold, found)


def _same_equations(gold: Answer, found: Answer) -> bool:
    return gold.kind == found.kind == "leaf" and expressions.same(_whole(gold), _whole(found))


def _whole(answer: Answer) -> str:
    return f"{answer.name}={answer.text}" if answer.name else answer.text


def _leaves(answer: Answer) -> list[str]:
    if answer.kind == "leaf":
        return [answer.text]
    return [text for item in answer.items for text in _leaves(item)]
