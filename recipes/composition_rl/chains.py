"""The surrogate compositional set: which seeds form which chain, drawn from (seed, depth) and nothing else.

D_hat_CK = {SPC(q1..qK): qK in D, q_k in D_k for k < K}, where D_k is a fresh random candidate set of 20 for every qK
and every k (arXiv 2602.12036, section 3). D_K is never subsampled: in the paper's ablation its diversity matters most.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache

import numpy as np

from raylign.errors import DataError
from raylign.recipes.composition_rl.problem import Problem
from raylign.records import derive_seed


class Slots(Enum):
    """How the candidate sets of the slots before the last are combined; both use every member of every D_k.

    `product`: every combination, |D| * candidates^(K-1) chains (the set as the paper writes it).
    `zip`: the i-th members together, |D| * candidates chains whatever the depth.
    """

    product = "product"
    zip = "zip"


class SurrogateSet:
    """All chains of one depth, by number; nothing is composed until a chain is asked for.

    first, last: the seeds that may stand before the last slot, and in it. Raises DataError when `first` is too small.
    """

    def __init__(
        self,
        first: Sequence[Problem],
        last: Sequence[Problem],
        depth: int,
        *,
        candidates: int,
        slots: Slots,
        seed: int,
    ) -> None:
        if depth < 1 or candidates < 1:
            raise ValueError(f"depth ({depth}) and candidates ({candidates}) must be at least 1")
        if not last or (depth > 1 and len(first) < depth):
            raise DataError(f"{len(first)} first and {len(last)} last seeds are too few for chains of depth {depth}")
        self._first, self._last = tuple(first), tuple(last)
        self.depth = depth
        self._seed = seed
        before = depth - 1
        self._candidates = min(candidates, (len(first) - 1) // before) if before else 1
        self._width = self._candidates ** (before if slots is Slots.product else min(before, 1))
        self._slots = slots
        self._draw = lru_cache(maxsize=4096)(self._draw_candidates)

    def __len__(self) -> int:
        return len(self._last) * self._width

    def chain(self, number: int) -> list[Problem]:
        """The K seeds of a chain, first to last; pairwise distinct."""
        last, choice = divmod(number, self._width)
        seeds = [self._last[last]]
        for slot, drawn in enumerate(self._draw(last)):
            if self._slots is Slots.product:
                choice, pick = divmod(choice, self._candidates)
            else:
                pick = choice
            seeds.insert(slot, self._first[drawn[pick]])
        return seeds

    def _draw_candidates(self, last: int) -> tuple[tuple[int, ...], ...]:
        """D_1..D_{K-1} of one last seed: disjoint, without that seed."""
        before = self.depth - 1
        name = self._last[last].id
        rng = np.random.Generator(np.random.PCG64(derive_seed(self._seed, "candidates", self.depth, name)))
        wanted = before * self._candidates
        drawn = rng.choice(len(self._first), size=wanted + 1, replace=False) if wanted else np.zeros(0, int)
        picked = [int(index) for index in drawn if self._first[index].id != name][:wanted]
        return tuple(tuple(picked[k * self._candidates : (k + 1) * self._candidates]) for k in range(before))
