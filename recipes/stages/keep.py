"""Which samples of a prompt become rows of a set."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from raylign.config.resolve import Run
from raylign.contracts import Part
from raylign.data.pass_rate import passes
from raylign.data.rows import DataRow
from raylign.errors import Problem
from raylign.objectives.shaping import unknown_reward
from raylign.records import Group, Value


class Kept(NamedTuple):
    """What one row is made of. Example: ``Kept(2)``, or as a preference pair ``Kept(2, rejected=0)``

    row: written in place of the prompt and what the sample said, where the rule makes rows of its own, say from a
    trajectory's payload; checked like every row of a file, and told in its meta where it comes from.
    """

    sample: int | None  # of the group's trajectories; None: the prompt as it is, with the target that it brings
    rejected: int | None = None
    row: DataRow | None = None


class Keep(Part):
    """Looks at all samples of a prompt, and says which rows they make."""

    what = "a rule of what is kept"

    @abstractmethod
    def keep(self, group: Group, usable: Sequence[int]) -> list[Kept]:
        """The rows of a prompt, in order; empty: none of its samples will do.

        usable: the samples that may be kept: those that were drawn, have a score (in a stage without rewards: all), and
        were not cut off. `group.scores` are None in a stage without rewards.
        """


class All(Keep):
    """Every sample."""

    @dataclass
    class Config:
        """Nothing to set."""

    def keep(self, group: Group, usable: Sequence[int]) -> list[Kept]:
        """See `Keep.keep`."""
        return [Kept(index) for index in usable]


class Measured(Keep):
    """A rule that goes by a number: of the stage's scores, or of one reward."""

    what = "a rule that goes by a number"

    @classmethod
    def problems(cls, key: str, config: Any, run: Run) -> list[Problem]:
        """There must be such a reward."""
        if not run.config.rewards:
            fix = "add rewards.NAME.fn, or set keep._target_=raylign.recipes.stages.keep.All"
            return [Problem(key=key, value=cls.__name__, why="goes by scores, and there is no reward", fix=fix)]
        return unknown_reward(f"{key}.reward", config.reward, run.config.rewards)

    def measured(self, group: Group, usable: Sequence[int]) -> list[tuple[int, float]]:
        """(sample, number) of the usable samples that have the number."""
        numbers = {index: self._number(group, index) for index in usable}
        return [(index, number) for index, number in numbers.items() if number is not None]

    def _number(self, group: Group, index: int) -> float | None:
        if not self.config.reward:
            return group.scores[index]
        reward = group.trajectories[index].rewards.get(self.config.reward)
        return reward.score if isinstance(reward, Value) else None


class Passing(Measured):
    """The samples that are good enough, in the order in which they were numbered."""

    @dataclass
    class Config:
        """How good, and how many of them."""

        at_least: float = 1.0
        count: int = 0  # the first so many; 0: all
        reward: str = ""  # whose number; empty: the score

        def __post_init__(self) -> None:
            if self.count < 0:
                raise ValueError(f"count is {self.count}, set it to 0 or more")

    def keep(self, group: Group, usable: Sequence[int]) -> list[Kept]:
        """See `Keep.keep`."""
        passing = [index for index, number in self.measured(group, usable) if number >= self.config.at_least]
        return [Kept(index) for index in passing[: self.config.count or None]]


class Best(Measured):
    """The best samples, of equal ones the first."""

    @dataclass
    class Config:
        """How many, and how good they must be at least."""

        count: int = 1
        at_least: float | None = None
        reward: str = ""  # whose number; empty: the score

        def __post_init__(self) -> None:
            if self.count < 1:
                raise ValueError(f"count is {self.count}, set it to 1 or more")

    def keep(self, group: Group, usable: Sequence[int]) -> list[Kept]:
        """See `Keep.keep`."""
        least = -float("inf") if self.config.at_least is None else self.config.at_least
        good = [(index, number) for index, number in self.measured(group, usable) if number >= least]
        return [Kept(index) for index, _ in sorted(good, key=lambda pair: -pair[1])[: self.config.count]]


class BestAndWorst(Measured):
    """A preference pair of the best and the worst sample; none where they are nearly as good."""

    @dataclass
    class Config:
        """How far apart they must be."""

        margin: float = 0.0  # more than this
        reward: str = ""  # whose number; empty: the score

        def __post_init__(self) -> None:
            if self.margin < 0:
                raise ValueError(f"margin is {self.margin}, set it to 0 or more")

    def keep(self, group: Group, usable: Sequence[int]) -> list[Kept]:
        """See `Keep.keep`."""
        ordered = sorted(self.measured(group, usable), key=lambda pair: -pair[1])
        if not ordered or ordered[0][1] - ordered[-1][1] <= self.config.margin:
            return []
        return [Kept(ordered[0][0], rejected=ordered[-1][0])]


class PassRate(Measured):
    """The prompts themselves, where the number of solved samples is within bounds; none without a measured sample."""

    @dataclass
    class Config:
        """How often is often enough."""

        at_least: int = 1  # solved samples of a prompt
        at_most: int = 0  # 0: no bound
        reward: str = ""  # the reward that says solved (1); empty: the only one, or else the score

        def __post_init__(self) -> None:
            if not 0 <= self.at_least <= (self.at_most or self.at_least):
                raise ValueError(f"at_least={self.at_least}, at_most={self.at_most}: no number fits")

    @classmethod
    def problems(cls, key: str, config: Any, run: Run) -> list[Problem]:
        """The stage must draw as many samples as it asks to be solved."""
        problems = super().problems(key, config, run)
        samples = run.parts[key.rpartition(".")[0]].config.samples
        if config.at_least > samples:
            why, fix = f"is more than the {samples} samples of a prompt", f"set {key}.at_least={samples} or less"
            problems.append(Problem(key=f"{key}.at_least", value=str(config.at_least), why=why, fix=fix))
        return problems

    def keep(self, group: Group, usable: Sequence[int]) -> list[Kept]:
        """See `Keep.keep`."""
        measured = passes(group, self.config.reward)
        solved = round(sum(measured))
        fits = self.config.at_least <= solved <= (self.config.at_most or len(measured))
        return [Kept(None)] if measured and fits else []
