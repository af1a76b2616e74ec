"""The surrogate compositional set: which seeds form which chain, drawn from (seed, depth) and nothing else.

D_hat_CK = {SPC(q1..qK): qK in D, q_k in D_k for k < K}, where D_k is a fresh random candidate set of 20 for every qK
and every k (arXiv 2602.12036, section 3). D_K is never subsampled: in the paper's ablation its diversity matters most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import numpy as np

from .chain import Chain, CompositionError
from .identity import derive_seed


class Slots(Enum):
    """How the candidate sets of the slots before the last are combined; both use every member of every D_k.

    `product`: every combination, |D| * candidates^(K-1) chains (the set as the paper writes it).
    `zip`: the i-th members together, |D| * candidates chains whatever the depth.
    """

    product = "product"
    zip = "zip"


class SurrogateSet:
    """All chains of one depth, by number; nothing is composed until a chain is asked for.

    first, last: the seeds that may stand before the last slot, and in it. Raises CompositionError on too few.
    """

    def __init__(
        self,
        first: Sequence[Chain],
        last: Sequence[Chain],
        depth: int,
        *,
        candidates: int,
        slots: Slots,
        seed: int,
    ) -> None:
        if depth < 1 or candidates < 1:
            raise ValueError(f"depth ({depth}) and candidates ({candidates}) must be at least 1")
        if not last or (depth > 1 and len(first) < depth):
            raise CompositionError(
                f"{len(first)} first and {len(last)} last seeds are too few for chains of depth {depth}"
            )
        self._first, self._last = tuple(first), tuple(last)
        self.depth = depth
        self._seed = seed
        before = depth - 1
        self._candidates = min(candidates, (len(first) - 1) // before) if before else 1
        self._width = self._candidates ** (before if slots is Slots.product else min(before, 1))
        self._slots = slots
        self._draw = lru_cache(maxsize=4096)(self._sample_candidates)

    def __len__(self) -> int:
        return len(self._last) * self._width

    @property
    def slots(self) -> list[tuple[Chain, ...]]:
        """[K] the seeds that may stand in each, first to last."""
        return [*[self._first] * (self.depth - 1), self._last]

    def chain(self, number: int) -> list[Chain]:
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

    def _sample_candidates(self, last: int) -> tuple[tuple[int, ...], ...]:
        """D_1..D_{K-1} of one last seed: disjoint, without that seed."""
        before = self.depth - 1
        name = self._last[last].id
        rng = np.random.Generator(np.random.PCG64(derive_seed(self._seed, "candidates", self.depth, name)))
        wanted = before * self._candidates
        drawn = rng.choice(len(self._first), size=wanted + 1, replace=False) if wanted else np.zeros(0, int)
        picked = [int(index) for index in drawn if self._first[index].id != name][:wanted]
        return tuple(tuple(picked[k * self._candidates : (k + 1) * self._candidates]) for k in range(before))


@dataclass
class Selection:
    """Which seeds may stand in which slot, and how they are combined."""

    candidates: int = 20  # members of D_k for every last seed and every slot before it
    slots: Slots = Slots.product
    first_domain: str = ""  # seeds of the slots before the last, "": all; cross-domain composition
    last_domain: str = ""  # seeds of the last slot, "": all
    first_size: int = 0  # seeds that may stand before the last slot, drawn once (the paper's ablation: 500); 0: all
    last_size: int = 0  # the same of the last slot

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates={self.candidates} must be at least 1")
        if min(self.first_size, self.last_size) < 0:
            raise ValueError(f"first_size={self.first_size}, last_size={self.last_size}: 0 (all) or more")

    def seeds(self, every: Iterable[Chain], seed: int) -> tuple[list[Chain], list[Chain]]:
        """The first and the last seeds. Raises CompositionError when there are too few."""
        known = list(every)
        first = _drawn(_of_domain(known, self.first_domain), self.first_size, seed, "first seeds")
        return first, _drawn(_of_domain(known, self.last_domain), self.last_size, seed, "last seeds")

    def chains(self, first: Sequence[Chain], last: Sequence[Chain], depth: int, seed: int) -> SurrogateSet:
        """The set of one depth. Raises CompositionError when there are too few seeds."""
        return SurrogateSet(first, last, depth, candidates=self.candidates, slots=self.slots, seed=seed)


def _of_domain(seeds: Sequence[Chain], domain: str) -> list[Chain]:
    chosen = [seed for seed in seeds if domain in ("", seed.domain)]
    if not chosen:
        known = ", ".join(repr(name) for name in sorted({seed.domain for seed in seeds}))
        raise CompositionError(f"no seed has the domain {domain!r}; there are {known or 'no seeds'}")
    return chosen


def _drawn(seeds: list[Chain], size: int, seed: int, slot: str) -> list[Chain]:
    """`size` of the seeds in their order, all for 0."""
    if not size:
        return seeds
    if size > len(seeds):
        raise CompositionError(f"{size} {slot} are asked for and there are {len(seeds)}")
    rng = np.random.Generator(np.random.PCG64(derive_seed(seed, slot)))
    return [seeds[index] for index in sorted(rng.choice(len(seeds), size=size, replace=False))]
