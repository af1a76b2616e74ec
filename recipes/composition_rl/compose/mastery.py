"""Composing what is mastered: a problem that is solved for certain comes back one link deeper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .chain import Chain
from .identity import derive_seed

TRIES = 8  # chains that are tried for one mastered problem before it is asked alone


class Mastery:
    """Which seeds are mastered, and how deep the chain is that a seed comes next in.

    first: the seeds that may stand before the last slot, once they are mastered.
    """

    def __init__(self, first: Sequence[Chain], seed: int) -> None:
        self._first = {chain.id: chain for chain in first}
        self._seed = seed
        self._levels: dict[str, int] = {}  # depth at which a seed comes next, 1 where absent
        self._mastered: list[str] = []  # solved for certain at depth 1, in the order of their mastery

    @property
    def share(self) -> float:
        """Share of the first seeds that are mastered."""
        return len(self._mastered) / len(self._first)

    def solved(self, seeds: Sequence[str]) -> None:
        """The chain of these seeds was solved by every attempt."""
        last = seeds[-1]
        self._levels[last] = max(self._levels.get(last, 1), len(seeds) + 1)
        if len(seeds) == 1 and last in self._first and last not in self._mastered:
            self._mastered.append(last)

    def chains(self, last: Chain, deepest: int, visit: int) -> Iterator[list[Chain]]:
        """What to ask next that ends with a seed, best first: chains after mastered seeds, then the seed alone."""
        level = min(self._levels.get(last.id, 1), deepest)
        before = [self._first[name] for name in self._mastered if name != last.id]
        if level > 1 and len(before) >= level - 1:
            for attempt in range(TRIES):
                rng = np.random.default_rng(derive_seed(self._seed, "online", last.id, visit, attempt) % 2**63)
                yield [*(before[i] for i in rng.choice(len(before), size=level - 1, replace=False)), last]
        yield [last]

    def state_dict(self) -> dict[str, Any]:
        """Everything that a restart needs, in JSON types."""
        return {"levels": dict(self._levels), "mastered": list(self._mastered)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._levels = {str(name): int(level) for name, level in state["levels"].items()}
        self._mastered = [str(name) for name in state["mastered"]]
