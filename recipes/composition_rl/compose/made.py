"""A set of chains in the making: what is composed so far, what became of the rest, and both on disk."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .chain import Chain
from .counts import CompositionCounts
from .rows import result_of, rows_in, write_rows

ROWS = "chains.jsonl"


class MadeChains:
    """The chains, the counts of all that was asked for, and the errors of those that failed, in words.

    Example: ``made.add(payload_of(chain))``
    """

    def __init__(self) -> None:
        self.chains: list[Chain] = []
        self.counts = CompositionCounts()
        self.errors: Counter[str] = Counter()

    def add(self, payload: Mapping[str, Any], error: str = "") -> None:
        """One result: what `payload_of` gave. error: of a composer that failed, whose payload is empty."""
        result = result_of(payload)
        self.counts.count(result)
        if isinstance(result, Chain):
            self.chains.append(result)
        if error:
            self.errors[error] += 1

    def common(self, number: int = 3) -> str:
        """The most common errors, or where there is none the reasons of rejection, with their counts."""
        return ", ".join(f"{why} {count}" for why, count in (self.errors or self.counts.rejected).most_common(number))

    def state_dict(self) -> dict[str, Any]:
        """The counts, in JSON types; the chains are in the file that `save` writes."""
        return {"counts": self.counts.state_dict(), "errors": dict(self.errors)}

    def write(self, path: Path) -> None:
        """The chains as JSON lines, in an order of their own."""
        write_rows(path, self.chains)

    async def save(self, folder: Path) -> None:
        """Write the chains, in a thread."""
        await asyncio.to_thread(self.write, folder / ROWS)

    async def restore(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Go on from what `save` wrote and `state_dict` gave. Raises CompositionError on a row that is no chain."""
        self.chains = [Chain.from_record(row) for row in await asyncio.to_thread(rows_in, folder / ROWS)]
        self.counts.load_state_dict(state["counts"])
        self.errors = Counter(state["errors"])
