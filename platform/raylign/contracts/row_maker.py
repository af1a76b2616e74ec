"""What a step learns from: groups -> the learner's rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from raylign.batch import Batch
from raylign.contracts.part import Part
from raylign.records import Float32s, Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a row comes from: a trajectory of a group, and the calls that it learns from, in the row's order.

    Example: ``Place(group=0, trajectory=3, calls=(0, 2))``
    """

    group: int
    trajectory: int
    calls: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """B rows, a score for each, and where each comes from."""

    batch: Batch
    scores: Float32s  # [B] NaN: none
    places: Sequence[Place]  # [B]


class RowMaker(Part):
    """Makes rows of trajectories, none to many of each.

    A trajectory of which there are several says so by array ``sample`` of the batch; a trajectory that is left out
    leaves the statistics of its group, too. The number of a row's group is the group's place in the list.
    """

    what = "a row maker"
    splits: bool = False  # True: calls of one trajectory may stand in several rows

    @abstractmethod
    def rows(self, groups: Sequence[Group], unscored: bool = False) -> Rows:
        """Rows of all trajectories that have a score, in order. unscored: of those without one, too, with score NaN."""
