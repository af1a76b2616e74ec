"""Sweeps: who chooses the points, and who starts them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from raylign.contracts.part import Part

if TYPE_CHECKING:
    from raylign.sweeps.points import Handle, Point


class Sampler(Part):
    """Chooses points. space: what may vary; folder: of the sweep; direction: maximize or minimize."""

    what = "a sampler of sweeps"
    made_with = ("space", "folder", "seed", "direction")
    learns: ClassVar[bool] = True  # its choices depend on what points measured, so that another metric is another sweep
    total: int

    @abstractmethod
    def to_check(self) -> list[tuple[str, ...]]:
        """Values of the points that stand for all that it may choose."""

    @abstractmethod
    def ask(self) -> Point | None:
        """The next point; None when all have been handed out."""

    def tell(self, point: Point) -> None:
        """A point ended."""


class Launcher(Part):
    """Starts points. config_dir: the user's folder of groups, or empty; name: of the sweep."""

    what = "a launcher of sweeps"
    made_with = ("config_dir", "name")
    parallel: int

    @abstractmethod
    def start(self, point: Point) -> Handle:
        """Start, or go on with, a point whose folder may hold an unfinished run."""

    def close(self) -> None:
        """Everything that was started has ended."""
