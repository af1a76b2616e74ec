"""What a run asks next: which problems are chained at each place of an epoch, and the chain that they become."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from .chain import Chain, CompositionError, Rejected
from .counts import CompositionCounts
from .drive import Composer, compose_now
from .mastery import Mastery
from .operation import side_by_side, spc
from .surrogate import Selection, SurrogateSet

T = TypeVar("T")


class Mode(Enum):
    """Where chains come from."""

    offline = "offline"  # the surrogate set of a depth, or chains made in advance
    online = "online"  # one seed after another; one that all rollouts solved comes back a link deeper


class Supply:
    """The chains over some seeds, by depth and place, and the counts of those that were asked for.

    seeds: [S] chains of depth 1. made: chains made in advance, by depth; where there are any, nothing deeper is
    composed. linked=False: problems side by side. Raises CompositionError on too few seeds.
    """

    def __init__(
        self,
        seeds: Iterable[Chain],
        selection: Selection,
        composer: Composer,
        seed: int,
        *,
        made: Mapping[int, Sequence[Chain]],
        mode: Mode = Mode.offline,
        linked: bool = True,
    ) -> None:
        self.counts = CompositionCounts()
        self._first, self._last = selection.seeds(seeds, seed)
        self.mastery = Mastery(self._first, seed)
        self._selection, self._composer, self._seed = selection, composer, seed
        self._made, self._linked, self._online = made, linked, mode is Mode.online
        self._sets: dict[int, SurrogateSet] = {}

    def places(self, depth: int) -> int:
        """Chains of one epoch. Raises CompositionError where there can be none of this depth."""
        return len(self._last) if self._online else len(self._made.get(depth) or self._set(depth))

    def take(self, depth: int, place: int, epoch: int, use: Callable[[Chain], T | Rejected]) -> T | None:
        """What `use` makes of the best chain at a place; None where each is rejected, by the composer or by `use`."""
        used = (self._used(problems, use) for problems in self._choices(depth, place, epoch))
        return next((result for result in used if not isinstance(result, Rejected)), None)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a restart needs, in JSON types."""
        return {"counts": self.counts.state_dict(), "mastery": self.mastery.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.counts.load_state_dict(state["counts"])
        self.mastery.load_state_dict(state["mastery"])

    def _set(self, depth: int) -> SurrogateSet:
        if self._made and depth > 1:
            raise CompositionError(f"holds no chain of depth {depth}; it holds depths {sorted(self._made)}")
        if depth not in self._sets:
            self._sets[depth] = self._selection.chains(self._first, self._last, depth, self._seed)
        return self._sets[depth]

    def _choices(self, depth: int, place: int, epoch: int) -> Iterable[Sequence[Chain]]:
        """What may be composed at a place, best first."""
        if self._online:
            return self.mastery.chains(self._last[place], depth, epoch)
        made = self._made.get(depth)
        return [[made[place]] if made else self._set(depth).chain(place)]

    def _used(self, problems: Sequence[Chain], use: Callable[[Chain], T | Rejected]) -> T | Rejected:
        linked = self._linked or len(problems) == 1
        chain = spc(problems, partial(compose_now, self._composer)) if linked else side_by_side(problems)
        used = chain if isinstance(chain, Rejected) else use(chain)
        self.counts.count(used if isinstance(used, Rejected) else chain)
        return used
