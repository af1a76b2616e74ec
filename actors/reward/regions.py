r"""Sets of real numbers, as relations, intervals, unions and comprehensions give them: ``x<1 \lor x>2``, ``x\ne 0``.

A region is brought to the one list of separate intervals that it is, so that all ways of writing it are alike. The ends
stay text (`worth` compares them); they are only ordered by value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cmp_to_key
from typing import Any

from raylign.actors.reward import expressions
from raylign.actors.reward.spelling import closing, split_top, squashed

RELATION = re.compile(r"\\(?:le|ge|ne)(?![a-zA-Z])|<|>|=")
VARIABLE = re.compile(r"[a-zA-Z]|\\(?:theta|alpha|beta|lambda|mu)(?![a-zA-Z])")
REALS = re.compile(r"\\(?:mathbb|mathbf|text)\s*\{?\s*R\s*\}?|\\R|(?:\\text\{)?all (?:real numbers|reals|real x)\}?")
EXCEPT = re.compile(
    r"(?P<all>.+?)\s*(?:\\setminus(?![a-zA-Z])|\\backslash(?![a-zA-Z])|(?<=\})\s*-\s*(?=\\\{)"
    r"|(?:\\text\{)?,? ?(?:except|excluding|other than)(?: for)? ?\}?)\s*(?P<out>.+)"
)
BUILDER = re.compile(
    r"\\\{\s*(?P<name>[a-zA-Z]|\\[a-zA-Z]+)\s*(?:\\in\s*(?P<domain>[^|:]+?))?\s*(?:\\mid(?![a-zA-Z])|\||:)\s*"
    r"(?P<condition>.+?)\s*\\\}"
)
TURNED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", r"\ne": r"\ne", "=": "="}
LOWEST, HIGHEST = r"-\infty", r"\infty"


@dataclass(frozen=True, slots=True)
class Span:
    """One interval; low and high are texts, `kind` its two brackets. A single number is ``[a,a]``."""

    low: str
    high: str
    kind: str


@dataclass(frozen=True, slots=True)
class Region:
    """Separate intervals in their order, of the variable `name` ("": of any)."""

    spans: tuple[Span, ...]
    name: str = ""


class Unordered(ValueError):
    """Ends whose order is not known, as of ``a`` and 2."""


EVERYTHING = Region((Span(LOWEST, HIGHEST, "()"),))


def region(text: str) -> Region | None:
    """The region that a spelled text says in so many words; None for anything else, a bare ``(1,2)`` too.

    A comma between relations of one variable is "and", unless nothing were left.
    """
    try:
        return _region(text.strip())
    except Unordered:
        return None


def _region(text: str) -> Region | None:
    if not re.search(r"<|>|\\(?:le|ge|ne|cup|cap|lor|setminus|backslash|mathbb|in|text|R)(?![a-zA-Z])|all real", text):
        return None
    for separator, join in ((r"\lor", _union), (",", _either), (";", _either), (r"\land", _meet)):
        parts = split_top(text, (separator,))
        if len(parts) > 1:
            return _joined(_continued([part for part in parts if part.strip(" ,;")]), join, separator == r"\lor")
    for separator, join in ((r"\cup", _union), (r"\cap", _meet)):
        parts = split_top(text, (separator,))
        if len(parts) > 1:
            pieces = [_region(part) or _bracketed(part) for part in parts]
            return _all([piece for piece in pieces if piece is not None], join) if None not in pieces else None
    return _atom(text)


def _atom(text: str) -> Region | None:
    if REALS.fullmatch(text):
        return EVERYTHING
    if builder := BUILDER.fullmatch(text):
        return _built(builder)
    if (outside := EXCEPT.fullmatch(text)) and REALS.fullmatch(outside["all"].strip()):
        listed = re.sub(r"^[a-zA-Z]\s*=|^\\text\{\s*|\}$|\\[{}]", "", outside["out"].strip())
        points = [point for point in split_top(listed, (",", r"\land", r"\lor")) if point]
        plain = points and all(expressions.real(point) is not None for point in points)
        return _all([_excluded(point) for point in points], _meet) if plain else None
    if match := re.fullmatch(r"([a-zA-Z])\s*\\in(?![a-zA-Z])\s*((?!\\\{[^|:]*$).+)", text):
        inner = _region(match[2]) or _bracketed(match[2])
        return inner and replace(inner, name=match[1])
    if text.startswith("(") and closing(text, 0) == len(text) - 1:
        return _region(text[1:-1].strip())
    return _related(text)


def _built(builder: re.Match[str]) -> Region | None:
    if builder["domain"] and not REALS.fullmatch(builder["domain"].strip()):
        return None  # integers that are greater than 2 are no interval
    inner = _region(builder["condition"])
    return replace(inner, name="") if inner and inner.name in ("", squashed(builder["name"])) else None


def _bracketed(text: str) -> Region | None:
    r"""``(1,2]`` or ``\{1,2\}`` as a part of a union."""
    text = text.strip()
    if text == r"\emptyset":
        return Region(())
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return _all([Region((Span(point, point, "[]"),)) for point in split_top(text[2:-2], (",", ";"))], _union)
    inner = split_top(text[1:-1], (",", ";"))
    if text[:1] not in ("(", "[") or text[-1:] not in (")", "]") or len(inner) != 2 or _letters(text):
        return None
    return _cleared([Span(inner[0], inner[1], text[0] + text[-1])])


def _related(text: str) -> Region | None:
    r"""``x<2``, ``0<x\le3``, ``|x|<2``, ``x\ne 0``, ``\ge 5``."""
    sides = [side.strip() for side in RELATION.split(text)]
    signs = [sign.strip() for sign in RELATION.findall(text)]
    places = [place for place, side in enumerate(sides) if VARIABLE.fullmatch(side.strip("|")) or not side]
    if len(signs) not in (1, 2) or len(places) != 1 or any(map(_letters, sides[: places[0]] + sides[places[0] + 1 :])):
        return None
    (place,) = places
    if (len(signs) == 2) != (place == 1 and len(sides) == 3) or (not sides[place] and place):
        return None
    name = sides[place]
    parts = [
        _half(sides[other], signs[min(other, place)], other < place) for other in range(len(sides)) if other != place
    ]
    if name.startswith("|") and name.endswith("|"):
        if len(signs) != 1 or signs[0] not in ("<", r"\le", ">", r"\ge") or place:
            return None
        far, sign = sides[1], signs[0]
        mirror = f"-({far})"
        parts = [_half(far, sign, False), _half(mirror, TURNED[sign], False)]
        return replace(_all(parts, _meet if sign in ("<", r"\le") else _union), name=squashed(name.strip("|")))
    return replace(_all(parts, _meet), name=squashed(name))


def _half(end: str, sign: str, left: bool) -> Region:
    """The numbers that stand in a relation to `end`. left: the end stands left of the sign."""
    sign = TURNED[sign] if left else sign
    if sign == r"\ne":
        points = [end.replace(r"\pm", own) for own in "+-"] if r"\pm" in end else [end]
        return _all([_excluded(point) for point in points], _meet)
    if r"\pm" in end:
        raise Unordered(end)
    if sign == "=":
        return Region((Span(end, end, "[]"),))
    if sign in ("<", r"\le"):
        return Region((Span(LOWEST, end, "()" if sign == "<" else "(]"),))
    return Region((Span(end, HIGHEST, "()" if sign == ">" else "[)"),))


def _excluded(point: str) -> Region:
    return Region((Span(LOWEST, point, "()"), Span(point, HIGHEST, "()")))


def _continued(parts: Sequence[str]) -> list[str]:
    r"""``x\ne 0,1``: what follows without a relation of its own belongs to the exclusion before it."""
    whole: list[str] = []
    for part in parts:
        before = re.match(r"(.*\\ne)(?![a-zA-Z])", whole[-1]) if whole else None
        bare = before and not RELATION.search(part) and not _letters(part) and part[:1] not in ("(", "[")
        whole.append(f"{before[1]} {part}" if before and bare else part)
    return whole


def _joined(parts: Sequence[str], join: Any, loose: bool) -> Region | None:
    """Relations of one variable put together. loose: intervals with an infinite end may stand among them."""
    pieces: list[Region] = []
    equations = 0
    for part in parts:
        piece = _region(part)
        if piece is None and "=" in part:
            piece = _related(part)
            equations += piece is not None
        if piece is None and loose and (r"\infty" in part or part[:1] + part[-1:] in ("(]", "[)")):
            piece = _bracketed(part)
        if piece is None:
            return None
        pieces.append(piece)
    if equations == len(pieces) or len({piece.name for piece in pieces if piece.name}) > 1:
        return None
    return _all(pieces, join)


def _all(pieces: Sequence[Region], join: Any) -> Region:
    whole, *rest = pieces
    for piece in rest:
        whole = replace(join(whole, piece), name=whole.name or piece.name)
    return whole


def _either(left: Region, right: Region) -> Region:
    both = _meet(left, right)
    return both if both.spans else _union(left, right)


def _union(left: Region, right: Region) -> Region:
    return _cleared([*left.spans, *right.spans])


def _meet(left: Region, right: Region) -> Region:
    spans = []
    for first in left.spans:
        for second in right.spans:
            low = max((first, second), key=cmp_to_key(_by_low))
            high = min((first, second), key=cmp_to_key(_by_high))
            spans.append(Span(low.low, high.high, low.kind[0] + high.kind[1]))
    return _cleared(spans)


def _cleared(spans: Sequence[Span]) -> Region:
    """Without empty spans, in order, and those that touch as one."""
    merged: list[Span] = []
    full = [span for span in spans if (order := _order(span.low, span.high)) < 0 or (order == 0 and span.kind == "[]")]
    for span in sorted(full, key=cmp_to_key(_by_low)):
        if merged and _touch(merged[-1], span):
            high = max((merged[-1], span), key=cmp_to_key(_by_high))
            merged[-1] = Span(merged[-1].low, high.high, merged[-1].kind[0] + high.kind[1])
        else:
            merged.append(span)
    return Region(tuple(merged))


def _touch(first: Span, later: Span) -> bool:
    """Whether nothing lies between an interval and one that begins later."""
    gap = _order(later.low, first.high)
    return gap < 0 or (gap == 0 and (later.kind[0] == "[" or first.kind[1] == "]"))


def _by_low(left: Span, right: Span) -> int:
    return _order(left.low, right.low) or (left.kind[0] == "(") - (right.kind[0] == "(")


def _by_high(left: Span, right: Span) -> int:
    return _order(left.high, right.high) or (left.kind[1] == "]") - (right.kind[1] == "]")


def _order(left: str, right: str) -> int:
    """-1, 0 or 1. Raises Unordered where either end is no number."""
    if squashed(left) == squashed(right):
        return 0
    first, second = expressions.real(left), expressions.real(right)
    if first is None or second is None:
        raise Unordered(f"{left} and {right}")
    if first == second or abs(first - second) < expressions.NARROW:
        return 0
    return 1 if first > second else -1


def _letters(text: str) -> bool:
    """Whether a variable stands in a text, commands left out."""
    return bool(re.search("[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", text)))
