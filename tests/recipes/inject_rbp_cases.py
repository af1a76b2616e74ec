"""Histories of known chains, and the table of them."""

from __future__ import annotations

from typing import Any

from raylign.contracts import PlacedRow
from raylign.recipes.inject_rbp.behaviours import BehaviourParser
from raylign.recipes.inject_rbp.table import PatternTable


def parser(**settings: Any) -> BehaviourParser:
    return BehaviourParser(BehaviourParser.Config(**settings))


def rows(chains: list[tuple[str, str, float | None]], questions: int = 4) -> list[PlacedRow]:
    """(family, chain, score) of rows that ask a few questions in turn."""
    return [
        PlacedRow(f"h:{n}", {"chain": chain, "score": score, "family": family, "question": f"q{n % questions}"})
        for n, (family, chain, score) in enumerate(chains)
    ]


COLUMNS = {"chain": "chain", "score": "score", "by": "family", "question": "question", "permutations": 99}
HISTORY: list[tuple[str, str, float | None]] = [
    *[("a", "OPVC", 1.0)] * 12,
    *[("a", "OPPC", 0.0)] * 12,
    *[("b", "OEPC", 1.0)] * 8,
    *[("b", "OPVC", 0.0)] * 8,
    *[("c", "SSS", 0.0)] * 3,
    ("a", "OPVC", None),
]


def table(history: list[tuple[str, str, float | None]] = HISTORY, **settings: Any) -> PatternTable:
    made = PatternTable(PatternTable.Config(**{**COLUMNS, **settings}))
    made.fit(rows(history), seed=1)
    return made
