"""Every combination, in order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from raylign.contracts import Sampler
from raylign.sweeps.points import Point
from raylign.sweeps.space import Space


class Grid(Sampler):
    """The full grid of a space."""

    learns = False

    @dataclass
    class Config:
        """Nothing to set: the command line says it all."""

    def __init__(self, config: Config, space: Space, folder: Path, seed: int = 0, direction: str = "maximize") -> None:
        self._space, self._folder = space, folder
        self._points = space.grid()
        self._next = 0
        self.total = len(self._points)

    def to_check(self) -> list[tuple[str, ...]]:
        """All points."""
        return self._points

    def ask(self) -> Point | None:
        """The next combination."""
        if self._next == self.total:
            return None
        number, values = self._next, self._points[self._next]
        self._next += 1
        return Point(
            number=number,
            overrides=self._space.point(values),
            varied=self._space.settings(values),
            folder=self._folder / f"{number:03d}",
        )

    def tell(self, point: Point) -> None:
        """A grid does not learn."""
