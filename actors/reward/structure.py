r"""A spelled answer taken apart by its outer brackets and commas: lists, tuples, intervals, unions, matrices, names.

Brackets mean something: ``(1,2)`` is a pair or an open interval, ``[1,2]`` a closed one, ``\{1,2\}`` a set, ``1,2`` a
list of answers in any order. The leaves stay text; `worth` compares those.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from raylign.actors.reward.spelling import closing, split_top, squashed

MATRIX = re.compile(r"\\begin\{([pbB]?)matrix\}(.*)\\end\{\1matrix\}", re.DOTALL)
NAME = re.compile(
    r"([a-zA-Z]|\\[a-zA-Z]+|[a-zA-Z]'*\s*\([a-zA-Z, ]*\)|[a-zA-Z](?:_\{?\w+\}?|'+)|\([a-zA-Z](?:\s*,\s*[a-zA-Z])+\)"
    r"|\\frac\{d[a-zA-Z]\}\{d[a-zA-Z]\})\s*(?:=|\\in(?![a-zA-Z]))\s*"
)
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
    found = _both_signs(text) or _named(text) or _listing(text) or _interval(text) or _matrix(text) or _bracketed(text)
    if found is None and REALS.fullmatch(text):
        return taken_apart(r"(-\infty,\infty)")
    return found or Answer("leaf", text)


def _named(text: str) -> Answer | None:
    r"""``x=5`` and ``x\in(0,1)``: what stands behind, with the name."""
    match = NAME.match(text)
    rest = text[match.end() :] if match else ""
    if match is None or not rest or "=" in rest or RELATION.search(rest):
        return None
    inner = taken_apart(rest)
    return Answer(inner.kind, inner.text, inner.items, squashed(match.group(1)).casefold())


def _listing(text: str) -> Answer | None:
    parts = [part for part in split_top(text, (",", ";")) if part]
    if len(parts) > 1:
        regions = [region for part in parts if (region := _interval(part)) is not None]
        return Answer("union", text, tuple(regions)) if len(regions) == len(parts) else _of_parts("list", parts)
    parts = split_top(text, (r"\cup",))
    return _of_parts("union", parts) if len(parts) > 1 else None


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


def _matrix(text: str) -> Answer | None:
    match = MATRIX.fullmatch(text)
    if match is None:
        return None
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", match.group(2)) if row.strip()]
    return Answer("matrix", text, tuple(_of_parts("row", split_top(row, ("&",))) for row in rows))


def _bracketed(text: str) -> Answer | None:
    if not text or not _is_bracketed(text):
        return None
    if text.startswith(r"\{"):
        # {x : x > 2} is compared as a text
        described = not text.endswith(r"\}") or re.search(r"\\mid|\||:", text)
        return None if described else _of_parts("{}", [part for part in split_top(text[2:-2], (",", ";")) if part])
    inside = text[1:-1].strip()
    parts = split_top(inside, (",", ";"))
    if text[0] != "{" and len(parts) > 1:
        return Answer(f"{text[0]}{text[-1]}", text, tuple(taken_apart(part) for part in parts))
    return taken_apart(inside) if text[0] + text[-1] in ("()", "{}") and inside else None


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
