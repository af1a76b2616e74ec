"""Marks an answer against the answer sheet's: structure by structure, leaf by leaf.

| gold                  | counts                                          | does not                       |
|-----------------------|-------------------------------------------------|--------------------------------|
| ``1,2`` (a list)      | the same in any order, with or without braces   | a part of it, ``(1,2)``        |
| ``(1,2)``             | the same in order, the brackets left out too    | ``[1,2]``, ``(2,1)``, a set    |
| union, ``x<1, x>2``   | the same intervals in any order                 | another bracket                |
| ``x=5``               | ``5``, ``5=x``                                  | ``y=5``                        |
| ``2x+3=y``            | both sides moved or multiplied                  | one side of it                 |
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from raylign.actors.reward import expressions
from raylign.actors.reward.spelling import spelled, split_top, squashed
from raylign.actors.reward.structure import UNORDERED, Answer, taken_apart
from raylign.actors.reward.worth import same_leaf

LONGEST_LIST = 64  # entries; longer lists are compared as texts


@lru_cache(maxsize=4096)
def equal(gold: str, found: str) -> bool:
    """Whether two answers in LaTeX (without a box) are the same. Cached: samples of a group repeat.

    Raises ValueError when the gold answer cannot be compared with anything. Whatever else fails is a wrong answer.
    """
    if gold.strip() == found.strip():
        return True
    sheet, answer = spelled(gold), spelled(found)
    if squashed(sheet) == squashed(answer):
        return True
    structure = taken_apart(sheet)
    try:
        return _same(structure, taken_apart(answer))
    except Exception as error:
        # sympy raises anything, also for an answer that is mathematics
        if isinstance(error, expressions.TooCostly) or not all(map(expressions.comparable, _leaves(structure))):
            raise ValueError(f"the gold answer {gold[:80]!r} cannot be compared: {error}"[:300]) from error
        return False


def _same(gold: Answer, found: Answer) -> bool:
    if gold.name and found.name and gold.name != found.name:
        return _same_equations(gold, found)
    if gold.kind == found.kind == "leaf":
        return _same_leaves(gold, found)
    if gold.kind in UNORDERED and found.kind in UNORDERED:
        return ("union" in (gold.kind, found.kind)) <= (gold.kind == found.kind) and _same_set(gold.items, found.items)
    if "leaf" in (gold.kind, found.kind):
        listing, leaf = (found, gold) if gold.kind == "leaf" else (gold, found)
        if listing.kind in UNORDERED and len(listing.items) == 1:
            return _same(*((leaf, listing.items[0]) if leaf is gold else (listing.items[0], leaf)))
        return False
    in_order = gold.kind == found.kind or (gold.kind == "()" and found.kind == "list")
    return (
        in_order
        and len(gold.items) == len(found.items)
        and all(_same(*pair) for pair in zip(gold.items, found.items, strict=True))
    )


def _same_set(gold: Sequence[Answer], found: Sequence[Answer]) -> bool:
    """Each of the one is among the other; what is said twice counts once."""
    if max(len(gold), len(found)) > LONGEST_LIST:
        return False
    if len(gold) == len(found) and all(map(_same, gold, found)):
        return True
    return all(any(_same(one, other) for other in found) for one in gold) and all(
        any(_same(one, other) for one in gold) for other in found
    )


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
