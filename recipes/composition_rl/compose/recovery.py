"""Whether a response states the values that link a chain, which no verifier of its last answer looks at."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .latex import Unreadable, parse
from .symbolic import same_value

VALUE = r"\s*\$?\s*(?:=|:|is|equals)\s*\$?\s*(?P<value>-?[^\s;,$]+(?:\}\{[^\s;,$]+)*)"


def links_recovered(text: str, links: Sequence[Mapping[str, str]]) -> list[bool]:
    """For every link, whether the response assigns its first variable the right value, by the first "X = value"."""
    return [_states(text, link["symbol1"], link["value1"]) for link in links]


def recovery_metrics(stated: Sequence[Sequence[bool]], solved: Sequence[bool | None]) -> dict[str, float]:
    """Shares over the responses to chains; none without one. stated: by response, of each link (`links_recovered`).

    `lucky`: share of the solved chains whose first linked value is not stated right; only the last answer is verified.
    """
    if not stated:
        return {}
    first = [links[0] for links in stated]
    metrics = {"v1_recovered": _share(first), "links_recovered": _share([right for links in stated for right in links])}
    lucky = [not right for right, passed in zip(first, solved, strict=True) if passed]
    return metrics | ({"lucky": _share(lucky)} if lucky else {})


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)


def _states(text: str, symbol: str, value: str) -> bool:
    name = re.escape(symbol) if symbol.startswith("\\") else rf"(?<![A-Za-z\\]){symbol}"
    match = re.search(name + VALUE, text)
    if match is None:
        return False
    stated = match["value"].rstrip(".)\\")
    if stated == value:
        return True
    try:
        return same_value(parse(stated), parse(value))
    except (Unreadable, ZeroDivisionError, TypeError):
        return False
