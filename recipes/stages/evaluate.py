"""Evaluation as a stage: no weights change."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from raylign.config.resolve import Run
from raylign.config.schema import SamplingConfig
from raylign.contracts import Stage, StageResult, StageSettings
from raylign.data.prompts import Split
from raylign.errors import Problem
from raylign.recipes.stages.context import RunContext


def check_sampling(samples: int, greedy: bool, sampling: SamplingConfig | None) -> None:
    """Raises ValueError on an evaluation whose settings contradict each other."""
    if greedy and samples > 1:
        raise ValueError("samples > 1 of a greedy policy are all the same; set greedy: false")
    if greedy and sampling is not None and sampling.temperature:
        raise ValueError(f"sampling.temperature={sampling.temperature} does nothing to a greedy policy; greedy: false")


class Evaluate(Stage):
    """Score the current model, as a rule on the held-out prompts; no rollout strategy searches."""

    @dataclass
    class Config(StageSettings):
        """How to sample; greedy with one sample is pass@1 at temperature 0."""

        samples: int = 1
        greedy: bool = True
        prompts: int = 0  # 0: all of the split
        split: Split = Split.holdout
        sampling: SamplingConfig | None = None  # null: the run's, which are those of training

        def __post_init__(self) -> None:
            check_sampling(self.samples, self.greedy, self.sampling)

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """Nothing learns here."""
        return frozenset({"rollout", "rewards"})

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """There must be prompts to ask."""
        if config.split is Split.train or run.config.data.holdout or run.config.data.eval_path:
            return []
        why = f"{key} scores held-out prompts and there are none"
        fix = f"set data.holdout=128, data.eval_path=FILE, or {key}.split=train"
        return [Problem(key="data.holdout", value="0", why=why, fix=fix)]

    async def run(self, context: RunContext) -> StageResult:
        """Evaluate the model of the lineage."""
        context.begin(self.name, 1, 0)
        config = self.config
        prompts = context.prompts.first(config.split, config.prompts)
        context.recorder.event("phase", stage=self.name, stage_step=0, phase="start")
        await asyncio.gather(context.rollouts(), context.rewards())
        context.recorder.event("phase", stage=self.name, stage_step=0, phase="evaluate")
        found = await context.evaluate(prompts, config.samples, config.greedy, config.sampling)
        context.record(self.name, 1, found.metrics, found.groups)
        return StageResult(steps=1, metrics=found.metrics)
