"""The numbers of the loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raylign.config.findings import Findings
from raylign.contracts import Sampling, StrategySpec
from raylign.errors import Problem


@dataclass(kw_only=True)
class StepSettings:
    """What a stage sets of its steps: samples per step = prompts_per_step * group_size."""

    steps: int = 200
    prompts_per_step: int = 64
    group_size: int = 8
    minibatches: int = 1  # optimiser steps per epoch of a batch
    epochs: int = 1
    mask_truncated: bool = False  # rows cut by a length limit keep their score but carry no loss
    dynamic_sampling: bool = False  # refill groups whose scores are all equal
    sampling_rounds: int = 4  # tries to fill a step; then it goes on with what it has
    staleness: int = 0  # policy versions that rollouts may run ahead of the learner; 0: synchronous

    @property
    def updates(self) -> int:
        """Optimiser steps of one step."""
        return self.minibatches * self.epochs

    def step_problems(self, key: str) -> list[Problem]:
        """Numbers that no step can have. key: of the stage."""
        problems = Findings(key)
        problems.positive(
            steps=self.steps,
            prompts_per_step=self.prompts_per_step,
            group_size=self.group_size,
            minibatches=self.minibatches,
            epochs=self.epochs,
            sampling_rounds=self.sampling_rounds,
        )
        problems.not_negative(staleness=self.staleness)
        problems.at_most("sampling_rounds", self.sampling_rounds, 1000, "would look for prompts that differ for ever")
        if self.minibatches > 0 and self.prompts_per_step % self.minibatches:
            fits = [n for n in range(1, min(self.prompts_per_step, 64) + 1) if self.prompts_per_step % n == 0]
            why = f"does not divide prompts_per_step={self.prompts_per_step}; a group is never split"
            problems.expect(False, "minibatches", self.minibatches, why, f"choose one of {', '.join(map(str, fits))}")
        return problems


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """The numbers of one loop: those of its stage, and of the run."""

    step: StepSettings
    seed: int
    sampling: Sampling
    strategy: StrategySpec | None = None  # None: the run's
    critic_warmup: int = 0  # steps in which only the critic learns
    missing_limits: Mapping[str, float] = field(default_factory=dict)  # see `collect.refuse_missing`
    stall_s: float = 1800.0
