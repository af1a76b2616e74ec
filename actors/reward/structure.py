r"""A spelled answer taken apart by its outer brackets and commas: lists, tuples, intervals, unions, matrices, names.

Brackets mean something: ``(1,2)`` is a pair or an open interval, ``[1,2]`` a closed one, ``\{1,2\}`` a set, ``1,2`` a
list of answers in any order. The leaves stay text; `worth` compares those.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from raylign.actors.reward.spelling import closing, split_top, squashed

MATRIX = re.compile(r"\\begin\{([pbB]?)matrix\}(.*)\\end\{\1matrix\}", re.DOTALL)
NAME = re.compile(r"([a-zA-Z]|\\[a-zA-Z]+|[a-zA-Z]\s*\([a-zA-Z, ]*\)|[a-zA-Z](?:_\{?\w+\}?|'+))\s*(?:=|\\in(?![a-zA-Z]))\s*")
RELATION = re.compile(r"\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|<|>")
VARIABLE = re.compile(r"[a-zA-Z]|\\(?:theta|alpha|beta)")
REALS = re.compile(r"\\(?:mathbb|mathbf|text)\s*\{?\s*R\s*\}?|\\R|\\text\{all real numbers\}|all real numbers")
UNORDERED = ("list", "{}", "union")


@dataclass(frozen=True, slots=True)
class Answer:
    """A leaf (its text) or a listing of answers.

    kind: ``leaf``, ``list``, ``{}``, ``union``, ``matrix``, ``row``, or the two brackets of a tuple or interval. name:
    what it is said to be the value of.

    Example: ``Answer(kind="(]", items=(Answer(kind="leaf", text="3"), Answer(kind="leaf", text="4")))``
    """

    kind: str
    text: str
    items: tuple[Answer, ...] = ()
    name: str = ""


def taken_apart(text: str) -> Answer:
    """The structure of a spelled text. Plus-minus becomes the list of both."""
    text = text.strip()
    both = _both_signs(text)
    if both is not None:
        return both
    named = NAME.match(text)
    rest = text[named.end() :] if named else ""
    if named and rest and len(split_top(rest, ("=",))) == 1 and not RELATION.search(rest):
        parts = split_top(rest, (",", ";"))
        if not any("=" in part for part in parts):
            inner = taken_apart(rest)
            return Answer(inner.kind, inner.text, inner.items, squashed(named.group(1)).casefold())
    parts = [part for part in split_top(text, (",", ";")) if part]
    if len(parts) > 1:
        regions = [_interval(part) for part in parts]
        if all(region is not None for region in regions):
            return Answer("union", text, tuple(region for region in regions if region is not None))
        return _of_parts("list", parts)
    parts = split_top(text, (r"\cup",))
    if len(parts) > 1:
        return _of_parts("union", parts)
    if REALS.fullmatch(text):
        return taken_apart(r"(-\infty,\infty)")
    return _interval(text) or _bracketed(text) or Answer("leaf", text)


def _both_signs(text: str) -> Answer | None:
    if r"\pm" not in text:
        return None
    if text.startswith(r"\{") and _is_bracketed(text) and text.endswith(r"\}"):
        return _of_parts("{}", split_top(text[2:-2], (",", ";")))
    if len(split_top(text, (",", ";"))) > 1:
        return None  # each part has its own
    signs = (("+", "-"), ("-", "+"))
    items = tuple(taken_apart(text.replace(r"\pm", plus).replace(r"\mp", minus)) for plus, minus in signs)
    return Answer("list", text, items, items[0].name)


def _of_parts(kind: str, parts: list[str]) -> Answer:
    items = [taken_apart(part) for part in parts]
    flat = [inner for item in items for inner in (item.items if item.kind == "list" else (item,))]
    return Answer(kind, ",".join(parts), tuple(flat if kind in ("list", "{}") else items))


def _is_bracketed(text: str) -> bool:
    opening = 1 if text.startswith(r"\{") else 0
    return text[opening : opening + 1] in ("(", "[", "{") and closing(text, opening) == len(text) - 1


def _bracketed(text: str) -> Answer | None:
    matrix = MATRIX.fullmatch(text)
    if matrix:
        rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", matrix.group(2)) if row.strip()]
        return Answer("matrix", text, tuple(_of_parts("row", split_top(row, ("&",))) for row in rows))
    if not text or not _is_bracketed(text):
        return None
    if text.startswith(r"\{"):
        if not text.endswith(r"\}"):
            return None
        parts = [part for part in split_top(text[2:-2], (",", ";")) if part]
        if any(re.search(r"\\mid|\||:", part) for part in parts):
            return None  # {x : x > 2} is compared as a text
        return _of_parts("{}", parts)
    inside = text[1:-1].strip()
    if text[0] == "{":
        return taken_apart(inside)
    parts = split_top(inside, (",", ";"))
    if len(parts) > 1:
        items = tuple(taken_apart(part) for part in parts)
        return Answer(f"{text[0]}{text[-1]}", text, items)
    return taken_apart(inside) if text[0] == "(" and text[-1] == ")" and inside else None


def _interval(text: str) -> Answer | None:
    r"""``x<2`` and ``0<x\le3`` as the intervals that they are; None for anything else."""
    if "=" in text:
        return None
    sides = [side.strip() for side in RELATION.split(text)]
    signs = RELATION.findall(text)
    if len(signs) == 1 and VARIABLE.fullmatch(sides[0]) and not VARIABLE.search(_plain(sides[1])):
        sides, signs = [sides[1], sides[0]], [_turned(signs[0])]
    if len(signs) == 1 and VARIABLE.fullmatch(sides[1]) and not VARIABLE.search(_plain(sides[0])):
        if signs[0] in ("<", r"\le"):
            return _between(sides[0], signs[0], "<", r"\infty", sides[1])
        return _between(r"-\infty", "<", _turned(signs[0]), sides[0], sides[1])
    if len(signs) == 2 and VARIABLE.fullmatch(sides[1]) and not VARIABLE.search(_plain(sides[0] + sides[2])):
        low, high = signs
        if low in ("<", r"\le") and high in ("<", r"\le"):
            return _between(sides[0], low, high, sides[2], sides[1])
        if low not in ("<", r"\le") and high not in ("<", r"\le"):
            return _between(sides[2], _turned(high), _turned(low), sides[0], sides[1])
    return None


def _between(low: str, left: str, right: str, high: str, name: str) -> Answer:
    kind = ("(" if left == "<" else "[") + (")" if right == "<" else "]")
    ends = (Answer("leaf", low), Answer("leaf", high))
    return Answer(kind, f"{kind[0]}{low},{high}{kind[1]}", ends, squashed(name).casefold())


def _turned(sign: str) -> str:
    return {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}[sign]


def _plain(text: str) -> str:
    """Without commands, so that only the letters of variables are left."""
    return re.sub(r"\\[a-zA-Z]+", "", text)
