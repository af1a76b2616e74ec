"""Keep the prompts that the run's model solves often enough, or not too often."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from raylign.config.resolve import Run
from raylign.config.schema import SampledSettings, SamplingConfig
from raylign.contracts import ROWS, Asked, Stage, StageResult
from raylign.data.pass_rate import passes
from raylign.data.rendered import rows_of
from raylign.data.rows import write_rows
from raylign.errors import DataError, Problem
from raylign.objectives.shaping import unknown_reward
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.evaluate import check_sampling


class Screen(Stage):
    """Sample every training prompt and write those whose number of solved answers is within bounds as rows.

    A later stage reads them by ``data=@NAME``, another run by ``data.path``.
    """

    @dataclass
    class Config(SampledSettings):
        """How often is often enough; a prompt without a measured answer is never kept."""

        output: str = "kept.jsonl"  # relative to the stage's folder
        samples: int = 8
        at_least: int = 1  # solved answers of a prompt; `samples` keeps what is always solved
        at_most: int = 0  # 0: no bound
        reward: str = ""  # the reward that says solved (1); "": the only one, or else the score
        sampling: SamplingConfig | None = None  # null: the run's

        def __post_init__(self) -> None:
            check_sampling(self.samples, False, self.sampling)
            top = self.at_most or self.samples
            if not 0 <= self.at_least <= top <= self.samples:
                raise ValueError(f"at_least={self.at_least}, at_most={self.at_most}: no number of {self.samples} fits")

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """Nothing learns here."""
        return frozenset({"rollout", "rewards"})

    @classmethod
    def leaves(cls, config: Config) -> tuple[str, ...]:
        """The prompts that were kept."""
        return (ROWS,)

    @classmethod
    def asks(cls, config: Config) -> Asked:
        """Every training prompt."""
        max_tokens = config.sampling.max_tokens if config.sampling else 0
        return Asked(prompts=0, samples=config.samples, max_tokens=max_tokens)

    @classmethod
    def logs(cls, key: str, config: Config, run: Run) -> tuple[str, ...]:
        """How many prompts are kept, and the evaluation that chose them."""
        return ("screen/share", "screen/kept", "eval/score", "eval/*")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """The reward that says solved must be one of the run."""
        return unknown_reward(f"{key}.reward", config.reward, run.config.rewards)

    async def run(self, context: RunContext) -> StageResult:
        """Sample, count, write. Raises DataError when nothing is left."""
        config = self.config
        context.begin(self.name, 1, 0)
        strategy = await context.strategy()
        evaluation = await context.evaluate(context.prompts.train, config.samples, False, config.sampling, strategy)
        groups = evaluation.groups
        kept = [group for group in groups if self._fits(passes(group, config.reward))]
        metrics = evaluation.metrics | {"screen/kept": float(len(kept)), "screen/share": len(kept) / len(groups)}
        context.record(self.name, 1, metrics, groups)
        if not kept:
            raise DataError(f"stages.{self.name} keeps none of {len(groups)} prompts; loosen at_least or at_most")
        path = context.folder.stage(self.name) / config.output
        await asyncio.to_thread(write_rows, path, [row for group in kept for row in rows_of(group.prompt)])
        return StageResult(steps=1, metrics=metrics, artifacts={ROWS: str(path)})

    def _fits(self, passed: list[float]) -> bool:
        solved = round(sum(passed))
        return bool(passed) and self.config.at_least <= solved <= (self.config.at_most or self.config.samples)
