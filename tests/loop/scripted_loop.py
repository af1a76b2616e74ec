"""A loop over fakes whose parts remember: what the tests of the loop share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from raylign.contracts import GroupMetrics, RewardFunction, Scope
from raylign.data.source import DatasetSource
from raylign.loop import Loop, StepSettings
from raylign.objectives.shaping import WeightedSum
from raylign.records import Group, Prompt, Reward, Trajectory, Value
from raylign.testing import FakeRewards, fake_loop, prompt

Rule = Callable[[Prompt, Trajectory], Reward]


class Size(RewardFunction):
    """The number of samples of the group."""

    scope = Scope.GROUP

    @dataclass
    class Config:
        """Nothing to set."""

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        return [Value(score=float(len(trajectories)))] * len(trajectories)


def make(rule: Rule, count: int = 12, **given: Any) -> Loop:
    """rule: the reward that counts; count: of prompts; given: of `StepSettings` and of `fake_loop`.

    A source or a shaper is given as its class.
    """
    step = {name: given.pop(name) for name in list(given) if name in StepSettings.__dataclass_fields__}
    prompts = [prompt(number) for number in range(count)]
    return fake_loop(
        FakeRewards({"rule": rule, "size": Size(Size.Config())}),
        step=StepSettings(**{"steps": 0, "prompts_per_step": 4, "group_size": 3, **step}),
        source=given.pop("source", DatasetSource)(DatasetSource.Config(), prompts=prompts, seed=1),
        shaper=given.pop("shaper", WeightedSum)(WeightedSum.Config(), weights={"rule": 1.0, "size": 0.0}, max_tokens=8),
        **given,
    )


class Remembering(WeightedSum):
    """Scores are less the mean of all sums before; a state of the small kind, and one of the large kind."""

    def __init__(self, *args: Any, **made_with: Any) -> None:
        super().__init__(*args, **made_with)
        self.asked = 0
        self.history = np.zeros(0)

    def score(self, groups: Sequence[Group]) -> list[Group]:
        self.asked += len(groups)
        before = float(self.history.mean()) if self.history.size else 0.0
        sums = super().score(groups)
        self.history = np.concatenate([self.history, *([s for s in g.scores if s is not None] for g in sums)])
        return [replace(g, scores=tuple(None if s is None else s - before for s in g.scores)) for g in sums]

    def metrics(self, groups: Sequence[Group]) -> list[GroupMetrics]:
        plain = super().metrics(groups)
        return [GroupMetrics(group={**m.group, "memory/size": float(self.history.size)}) for m in plain]

    def state_dict(self) -> dict[str, Any]:
        return {"asked": self.asked}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.asked = state["asked"]

    def save(self, folder: Path) -> None:
        np.save(folder / "history.npy", self.history)

    def restore(self, folder: Path) -> None:
        self.history = np.load(folder / "history.npy")


class Observing(DatasetSource):
    """Keeps the number of samples of every group that it has observed, as an array."""

    def __init__(self, *args: Any, **made_with: Any) -> None:
        super().__init__(*args, **made_with)
        self.sizes = np.zeros(0, np.int64)

    def observe(self, groups: Sequence[Group]) -> None:
        self.sizes = np.append(self.sizes, [len(group.trajectories) for group in groups])

    def save(self, folder: Path) -> None:
        np.save(folder / "sizes.npy", self.sizes)

    def restore(self, folder: Path) -> None:
        self.sizes = np.load(folder / "sizes.npy")


def first_token(_: Prompt, trajectory: Trajectory) -> Reward:
    return Value(score=float(trajectory.calls[0].token_ids[0]))
