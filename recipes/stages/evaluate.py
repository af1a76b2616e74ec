"""Evaluation as a stage: no weights change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raylign.data.prompts import Split
from raylign.recipes.stages.context import RunContext


class Evaluate:
    """Score the current model, as a rule on the held-out prompts; nothing searches."""

    @dataclass
    class Config:
        """How to sample; greedy with one sample is pass@1 at temperature 0."""

        samples: int = 1
        greedy: bool = True
        temperature: float | None = None  # of sampling that is not greedy; None: the run's
        prompts: int = 0  # 0: all of the split
        split: Split = Split.holdout

        def __post_init__(self) -> None:
            check_temperature(self.temperature)
            if self.greedy and self.temperature is not None:
                raise ValueError(f"temperature={self.temperature} means nothing to a greedy policy; set greedy: false")
            if self.greedy and self.samples > 1:
                raise ValueError("samples > 1 of a greedy policy are all the same; set greedy: false")

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """Nothing learns here."""
        return frozenset({"rollout", "rewards"})

    def __init__(self, config: Config, name: str) -> None:
        self.config = config
        self.name = name

    async def run(self, context: RunContext) -> dict[str, Any]:
        """Evaluate the model of the lineage."""
        context.begin(self.name, 1, 0)
        config = self.config
        prompts = context.prompts.first(config.split, config.prompts)
        found = await context.evaluate(prompts, config.samples, config.greedy, config.temperature)
        context.record(self.name, 1, found.metrics, found.groups)
        return {"steps": 1, "metrics": found.metrics}


def check_temperature(temperature: float | None) -> None:
    """Raises ValueError on one that cannot be sampled at."""
    if temperature is not None and temperature <= 0:
        raise ValueError(f"temperature={temperature}: sampling needs one above 0; greedy evaluation has none")
