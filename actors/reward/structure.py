r"""A spelled answer taken apart by its outer brackets and commas: lists, tuples, intervals, unions, matrices, names.

Brackets mean something: ``(1,2)`` is a pair or an open interval, ``[1,2]`` a closed one, ``\{1,2\}`` a set, ``1,2`` a
list of answers in any order. The leaves stay text; `worth` compares those.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from raylign.actors.reward.regions import region
from raylign.actors.reward.spelling import closing, split_top, squashed

MATRIX = re.compile(r"\\begin\{([pbB]?)matrix\}(.*)\\end\{\1matrix\}", re.DOTALL)
NAME = re.compile(
    r"([a-zA-Z]|\\[a-zA-Z]+|[a-zA-Z]'*\s*\([a-zA-Z, ]*\)|[a-zA-Z](?:_\{?\w+\}?|'+)|\([a-zA-Z](?:\s*,\s*[a-zA-Z])+\)"
    r"|\\frac\{d[a-zA-Z]\}\{d[a-zA-Z]\})\s*(?:=|\\(?:in|equiv)(?![a-zA-Z]))\s*"
)
RELATION = re.compile(r"\\(?:le|ge|ne)(?![a-zA-Z])|<|>|=")
WORDS = re.compile(r"\\text\{[^{}]*[a-zA-Z][^{}]*\}|(?<![\\a-zA-Z])[a-zA-Z]{2,}")
UNORDERED = ("list", "{}", "union", "either")


@dataclass(frozen=True, slots=True)
class Answer:
    """A leaf (its text) or a listing of answers.

    kind: ``leaf``, ``list``, ``either`` (of things that are no values: red or blue, x=1 or y=2), ``{}``, ``union``,
    ``matrix``, ``row``, or the two brackets of a tuple or interval. name: what it is said to be the value of.

    Example: ``Answer(kind="(]", items=(Answer(kind="leaf", text="3"), Answer(kind="leaf", text="4")))``
    """

    kind: str
    text: str
    items: tuple[Answer, ...] = ()
    name: str = ""


def taken_apart(text: str) -> Answer:
    """The structure of a spelled text. Plus-minus becomes the list of both."""
    text = text.strip()
    for part in (_known_region, _both_signs, _named, _listing, _matrix, _bracketed):
        if (structure := part(text)) is not None:
            return structure
    return Answer("leaf", text)


def _named(text: str) -> Answer | None:
    r"""``x=5`` and ``x\in(0,1)``: what stands behind, with the name."""
    match = NAME.match(text)
    rest = text[match.end() :] if match else ""
    if match is None or not rest or RELATION.search(rest):
        return None
    inner = taken_apart(rest)
    return Answer(inner.kind, inner.text, inner.items, squashed(match.group(1)))


def _listing(text: str) -> Answer | None:
    r"""Commas and ``\land`` make a list; ``\lor`` one of the values that it stands between, else `either`.

    A comma binds tighter than "or" (``x=1, y=2 or x=2, y=1``), but for the one in front of it (``1, 2, or 3``).
    """
    choices = split_top(text, (r"\lor",))
    if len(choices) > 1:
        if any(choice.endswith((",", ";")) for choice in choices[:-1]):
            choices = split_top(text, (r"\lor", ",", ";"))
        answer = _of_parts("list", [choice for choice in choices if choice])
        return answer if _values(answer.items) else replace(answer, kind="either")
    parts = [part for part in split_top(text, (",", ";", r"\land")) if part]
    if len(parts) > 1:
        return _of_parts("list", parts)
    parts = split_top(text, (r"\cup",))
    return _of_parts("union", parts) if len(parts) > 1 else None


def _values(items: tuple[Answer, ...]) -> bool:
    """Whether alternatives are values of one thing, so that "or" and "and" between them both list them."""
    names = {item.name for item in items if item.name}
    leaves = [item.text for item in items if item.kind == "leaf"]
    plain = all(re.search(r"\d|\\", WORDS.sub("", text)) and not RELATION.search(text) for text in leaves)
    words = {tuple(connectives) for text in leaves if (connectives := WORDS.findall(text))}
    return plain and len(names) <= 1 and len(words) <= 1


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
    flat = [inner for item in items for inner in (item.items if _is_open(item) else (item,))]
    return Answer(kind, ",".join(parts), tuple(flat if kind in ("list", "{}") else items))


def _is_open(item: Answer) -> bool:
    """Whether the entries of a list inside a list are its own: not those of a solution, ``x=1, y=2``."""
    return item.kind == "list" and len({inner.name for inner in item.items if inner.name}) < 2


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
        # {x : x is prime} is compared as a text
        described = not text.endswith(r"\}") or re.search(r"\\mid|\||:", text)
        return None if described else _of_parts("{}", [part for part in split_top(text[2:-2], (",", ";")) if part])
    inside = text[1:-1].strip()
    parts = split_top(inside, (",", ";"))
    if text[0] != "{" and len(parts) > 1:
        return Answer(f"{text[0]}{text[-1]}", text, tuple(taken_apart(part) for part in parts))
    return taken_apart(inside) if text[0] + text[-1] in ("()", "{}") and inside else None


def _known_region(text: str) -> Answer | None:
    """The intervals of a region, each a tuple with its brackets; numbers that stand alone as sets of one."""
    known = region(text)
    if known is None:
        return None
    if not known.spans:
        return Answer("leaf", r"\emptyset")
    parts = tuple(
        Answer("{}", span.low, (Answer("leaf", span.low),))
        if span.kind == "[]" and span.low == span.high
        else Answer(span.kind, text, (Answer("leaf", span.low), Answer("leaf", span.high)))
        for span in known.spans
    )
    if len(parts) == 1:
        return replace(parts[0], name=known.name)
    if all(part.kind == "{}" for part in parts):
        return Answer("{}", text, tuple(part.items[0] for part in parts), known.name)
    return Answer("union", text, parts, known.name)
