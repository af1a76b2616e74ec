"""Held-out evaluation as a stage: no weights change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raylign.config.schema import SamplingConfig
from raylign.recipes.stages.context import RunContext


def check_sampling(samples: int, greedy: bool, sampling: SamplingConfig | None) -> None:
    """Raises ValueError on an evaluation whose settings contradict each other."""
    if greedy and samples > 1:
        raise ValueError("samples > 1 of a greedy policy are all the same; set greedy: false")
    if greedy and sampling is not None and sampling.temperature:
        raise ValueError(f"sampling.temperature={sampling.temperature} does nothing to a greedy policy; greedy: false")


class Evaluate:
    """Score the current model on the held-out prompts."""

    @dataclass
    class Config:
        """How to sample; greedy with one sample is pass@1 at temperature 0."""

        samples: int = 1
        greedy: bool = True
        prompts: int = 0  # 0: all held-out prompts
        sampling: SamplingConfig | None = None  # null: the run's, which are those of training

        def __post_init__(self) -> None:
            check_sampling(self.samples, self.greedy, self.sampling)

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
        prompts = context.prompts.holdout[: self.config.prompts or None]
        found = await context.evaluate(prompts, self.config.samples, self.config.greedy, self.config.sampling)
        context.record(self.name, 1, found.metrics, found.groups)
        return {"steps": 1, "metrics": found.metrics}
