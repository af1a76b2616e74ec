"""The space of a sweep: what the command line varies, and what it holds fixed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from raylign.errors import ConfigError, Problem

GROUP = "sweep"  # settings of the sweep itself, of which the points know nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One varied key: values to choose from, or an interval (`low` to `high`, both included; `step` 0: continuous).

    Example: ``Dimension(key="learner.optim.lr", low=1e-5, high=1e-3, log=True)``
    """

    key: str
    values: tuple[str, ...] = ()  # as the command line would write them
    low: float = 0.0
    high: float = 0.0
    step: float = 0.0
    whole: bool = False  # whole numbers only
    log: bool = False

    def corners(self) -> tuple[str, ...]:
        """All values, or the two ends."""
        return self.values or (self.text(self.low), self.text(self.high))

    def text(self, value: float) -> str:
        """A number of the interval as the command line would write it."""
        return str(round(value)) if self.whole else repr(float(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A parsed command line.

    Example: ``Space.parse(["recipe=grpo", "seed=1,2"]).grid()`` is ``[["recipe=grpo", "seed=1"], [..., "seed=2"]]``
    """

    fixed: tuple[str, ...]
    own: tuple[str, ...]  # ``sweep=...`` and ``sweep.key=...``
    dimensions: tuple[Dimension, ...]

    @classmethod
    def parse(cls, overrides: Sequence[str]) -> Space:
        """Read Hydra overrides. Raises ConfigError."""
        try:
            parsed = OverridesParser.create().parse_overrides(list(overrides))
            swept = [override for override in parsed if override.is_sweep_override()]
            rest = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
            own = tuple(text for text in rest if text.lstrip("+~").split("=")[0].split(".")[0] == GROUP)
            return cls(
                fixed=tuple(text for text in rest if text not in own),
                own=own,
                dimensions=tuple(_dimension(override) for override in swept),
            )
        except HydraException as cause:
            why = str(cause).splitlines()[0]
            fix = "write key=a,b or key=choice(a,b) or key=range(1,4) or key=interval(0,1)"
            raise ConfigError([Problem(key="sweep", value=" ".join(overrides), why=why, fix=fix)]) from cause

    def point(self, values: Sequence[str]) -> list[str]:
        """The overrides of one point. values: one for each dimension, in order."""
        return [*self.fixed, *self.settings(values)]

    def settings(self, values: Sequence[str]) -> list[str]:
        """Only what a point varies."""
        return [f"{dimension.key}={value}" for dimension, value in zip(self.dimensions, values, strict=True)]

    def grid(self) -> list[tuple[str, ...]]:
        """Values of every combination; a dimension that is an interval with a step is counted through.

        Raises ConfigError when one is continuous.
        """
        continuous = [dimension for dimension in self.dimensions if not dimension.values and not dimension.step]
        if continuous:
            fix = "sample it by sweep=optuna, or write the values: key=a,b,c"
            why = "is an interval, and a grid has no points in it"
            raise ConfigError(
                [Problem(key=item.key, value=f"{item.low} to {item.high}", why=why, fix=fix) for item in continuous]
            )
        return list(itertools.product(*(_counted(dimension) for dimension in self.dimensions)))

    def ends(self) -> list[tuple[str, ...]]:
        """A few points that between them hold every end of every dimension: what a check must look at."""
        corners = [dimension.corners() for dimension in self.dimensions]
        longest = max((len(values) for values in corners), default=1)
        return [tuple(values[min(row, len(values) - 1)] for values in corners) for row in range(longest)]


def _dimension(override: Override) -> Dimension:
    key, value = str(override.get_key_element()), override.value()
    if isinstance(value, IntervalSweep):
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        low, high = float(value.start or 0), float(value.end or 0)
        return Dimension(
            key=key, low=low, high=high, step=1.0 if whole else 0.0, whole=whole, log="log" in (value.tags or ())
        )
    if isinstance(value, RangeSweep) and not value.shuffle:
        start, stop, step = float(value.start or 0), float(value.stop or 0), float(value.step)
        count = max(0, -int(-(stop - start) // step))  # the end is not part of it
        whole = all(number == int(number) for number in (start, step)) and isinstance(value.start, int)
        if step > 0 and count > 1:
            return Dimension(key=key, low=start, high=start + (count - 1) * step, step=step, whole=whole)
    return Dimension(key=key, values=tuple(str(item) for item in override.sweep_string_iterator()))


def _counted(dimension: Dimension) -> tuple[str, ...]:
    if dimension.values:
        return dimension.values
    count = round((dimension.high - dimension.low) / dimension.step) + 1
    return tuple(dimension.text(dimension.low + index * dimension.step) for index in range(count))
