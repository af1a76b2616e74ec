"""What a row of a pair says about which answer is better: neither, where it is a tie.

| column                    | says that it is a tie                       | that it is none                  |
|---------------------------|---------------------------------------------|----------------------------------|
| tie, is_tie, winner_tie   | true, 1, yes, tie                           | false, 0, no                     |
| winner, preference, label | tie, tie (bothbad), draw, equal, same, both | chosen; other values say nothing |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raylign.errors import DataError

FLAGS = ("tie", "is_tie", "winner_tie")
WORDS = ("winner", "preference", "label")
YES, NO = ("true", "1", "1.0", "yes", "tie"), ("false", "0", "0.0", "no", "", "nan")
EQUAL = ("draw", "equal", "same", "both")  # and all that begins with "tie"


def is_tie(row: Mapping[str, Any], place: str) -> bool:
    """Whether a row's columns call it a tie. Raises DataError where they contradict each other, or `chosen`."""
    said = {name: flag for name in FLAGS if (flag := _flag(row.get(name), name, place)) is not None}
    said |= {name: True for name in WORDS if _equal(row.get(name))}
    winner = next((name for name in WORDS if _word(row.get(name)) in ("chosen", "rejected")), "")
    if winner and _word(row[winner]) == "rejected":
        raise DataError(f"{place}: {winner}=rejected, so the pair is turned round; swap chosen and rejected")
    if winner:
        said[winner] = False
    if len(set(said.values())) > 1:
        shown = " and ".join(f"{name}={row[name]!r}" for name in said)
        raise DataError(
            f"{place}: {shown} contradict each other: is it a tie? fix: drop one of the columns, or the row"
        )
    return any(said.values())


def _flag(value: Any, name: str, place: str) -> bool | None:
    """None: the column says nothing."""
    if value is None:
        return None
    word = _word(value)
    if word not in YES + NO:
        raise DataError(f"{place}: {name}={value!r} is neither true nor false; fix: write true where it is a tie")
    return None if word in ("", "nan") else word in YES


def _equal(value: Any) -> bool:
    word = _word(value) if isinstance(value, str) else ""
    return word.startswith("tie") or word in EQUAL


def _word(value: Any) -> str:
    return str(value).strip().lower()
