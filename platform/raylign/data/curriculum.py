"""A curriculum of depths, for prompt sources: stay at one depth until a metric says that it is exhausted, then go on.

A depth is whatever number the source grades its prompts by: links of a chain, a level of difficulty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from raylign.errors import CheckpointError


class Trigger(Enum):
    """What ends a depth.

    `none`: nothing. `gain`: the validation score rose by less than `gain_below` over `gain_steps` steps.
    `solve_all`: the solve-all ratio was above `solve_all_above` for `solve_all_steps` steps on end. `either`: one of
    both.
    """

    none = "none"
    gain = "gain"
    solve_all = "solve_all"
    either = "either"


class Curriculum:
    """Which depth to train at. Its state is JSON."""

    @dataclass
    class Config:
        """The depths in order, and what ends each but the last."""

        depths: list[int] = field(default_factory=lambda: [2])
        trigger: Trigger = Trigger.none
        gain_below: float = 0.005  # as a share: 0.5 points
        gain_steps: int = 50
        solve_all_above: float = 0.6
        solve_all_steps: int = 20

        def __post_init__(self) -> None:
            if not self.depths or min(self.depths) < 1 or self.depths != sorted(set(self.depths)):
                raise ValueError(f"depths={self.depths} must rise from 1 or more, each one once")
            if len(self.depths) > 1 and self.trigger is Trigger.none:
                raise ValueError(f"depths={self.depths} need a trigger: gain, solve_all or either")
            if self.gain_steps < 1 or self.solve_all_steps < 1:
                raise ValueError("gain_steps and solve_all_steps must be at least 1")

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stage = 0
        self.steps = 0  # at this depth
        self.streak = 0  # steps on end with a solve-all ratio above the bound
        self.scores: list[list[float]] = []  # [step at this depth, validation score]
        self.switches: list[dict[str, Any]] = []

    @property
    def depth(self) -> int:
        """The depth of the next prompt."""
        return self.config.depths[self.stage]

    def step(self, solve_all: float | None) -> bool:
        """One training step is over. solve_all: share of prompts at this depth solved by all rollouts, None: unknown.

        Returns whether the depth rises with it.
        """
        self.steps += 1
        if solve_all is not None:
            self.streak = self.streak + 1 if solve_all > self.config.solve_all_above else 0
        watched = self.config.trigger in (Trigger.solve_all, Trigger.either)
        return watched and self.streak >= self.config.solve_all_steps and self._deeper("solve_all")

    def evaluated(self, score: float) -> bool:
        """A validation score of the present policy; returns whether the depth rises with it."""
        config = self.config
        before = [value for step, value in self.scores if step <= self.steps - config.gain_steps]
        self.scores.append([self.steps, score])
        if config.trigger not in (Trigger.gain, Trigger.either) or not before:
            return False
        return score - before[-1] < config.gain_below and self._deeper("gain")

    def _deeper(self, why: str) -> bool:
        if self.stage + 1 >= len(self.config.depths):
            return False
        self.switches.append(
            {"from": self.depth, "to": self.config.depths[self.stage + 1], "after": self.steps, "why": why}
        )
        self.stage, self.steps, self.streak, self.scores = self.stage + 1, 0, 0, []
        return True

    def state_dict(self) -> dict[str, Any]:
        """Everything that a restart needs."""
        return {
            "depths": list(self.config.depths),
            "stage": self.stage,
            "steps": self.steps,
            "streak": self.streak,
            "scores": self.scores,
            "switches": self.switches,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave. Raises CheckpointError when the state is of other depths."""
        if state["depths"] != self.config.depths:
            raise CheckpointError(
                f"the checkpoint was made with curriculum.depths={state['depths']}, now {self.config.depths}; "
                "restore them, or start a new run"
            )
        self.stage, self.steps, self.streak = int(state["stage"]), int(state["steps"]), int(state["streak"])
        self.scores = [list(pair) for pair in state["scores"]]
        self.switches = [dict(switch) for switch in state["switches"]]
