"""Evaluation as a stage: no weights change."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from raylign.config.resolve import Run
from raylign.config.schema import Node, SampledSettings, SamplingConfig, named_nodes
from raylign.contracts import Asked, PromptSource, Stage, StageResult
from raylign.data.prompts import Split
from raylign.errors import Problem
from raylign.evaluate import Evaluation, table_path
from raylign.recipes.stages.context import RunContext
from raylign.records import derive_seed


def check_sampling(samples: int, greedy: bool, sampling: SamplingConfig | None) -> None:
    """Raises ValueError on an evaluation whose settings contradict each other."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if greedy and samples > 1:
        raise ValueError("samples > 1 of a greedy policy are all the same; set greedy: false")
    if greedy and sampling is not None and sampling.temperature:
        raise ValueError(f"sampling.temperature={sampling.temperature} does nothing to a greedy policy; greedy: false")


class Evaluate(Stage):
    """Score the current model, as a rule on the held-out prompts, or on the rows of its own `data`.

    With `sets`, on several prompt sets: each is a step of the stage, whose metrics are ``<set>/score`` and, as
    ``<set>/<name>``, those of its source, which observes the answers.
    """

    audited = True

    @dataclass
    class Config(SampledSettings):
        """How to sample; greedy with one sample is pass@1 at temperature 0."""

        samples: int = 1
        greedy: bool = True
        prompts: int = 0  # of the split, or of each set; 0: as many as the split has
        split: Split = Split.holdout
        sets: dict[str, Node] = named_nodes(PromptSource)  # name -> a source over the split; empty: the split
        sampling: SamplingConfig | None = None  # null: the run's, which are those of training

        def __post_init__(self) -> None:
            check_sampling(self.samples, self.greedy, self.sampling)

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """Nothing learns here."""
        return frozenset({"rollout", "rewards"})

    @classmethod
    def leaves(cls, config: Config) -> tuple[str, ...]:
        """The tables of its measures, by their names; one without rows is not there."""
        return () if config.sets else tuple(config.measures)

    @classmethod
    def asks(cls, config: Config) -> Asked:
        """Each prompt of the split, or of all sets."""
        max_tokens = config.sampling.max_tokens if config.sampling else 0
        held_out = config.split is Split.holdout and not config.data
        return Asked(
            prompts=config.prompts * max(1, len(config.sets)),
            samples=config.samples,
            max_tokens=max_tokens,
            held_out=held_out,
            trained=not held_out,
        )

    @classmethod
    def logs(cls, key: str, config: Config, run: Run) -> tuple[str, ...]:
        """The score; with sets that of each, the last set's first."""
        if config.sets:
            names = list(reversed(config.sets))
            return (*(f"{name}/score" for name in names), *(f"{name}/*" for name in names))
        return ("eval/score", "eval/best", "eval/prompts", "eval/*")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """There must be prompts to ask."""
        return [] if config.data or config.split is Split.train else run.config.data.unasked()

    @property
    def _split(self) -> Split:
        """Rows of its own are all asked."""
        return Split.train if self.config.data else self.config.split

    async def run(self, context: RunContext) -> StageResult:
        """Evaluate the model of the lineage."""
        config = self.config
        context.begin(self.name, max(1, len(config.sets)), 0)
        prompts = context.prompts.first(self._split, 0 if config.sets else config.prompts)
        sources = {name: self._source(context, name) for name in config.sets}
        context.phase(self.name, 0, "start")
        strategy, auditor, *_ = await asyncio.gather(
            context.strategy(), context.auditor(), context.rollouts(), context.rewards()
        )
        context.phase(self.name, 0, "evaluate")
        if not sources:
            evaluation = await context.evaluate(prompts, config.samples, config.greedy, config.sampling, strategy)
            evaluation = evaluation.with_audit(await auditor.grades(evaluation.groups) if auditor else None)
            context.record(self.name, 1, evaluation.metrics, evaluation.groups, audited=evaluation.audited)
            folder = context.folder.stage(self.name)
            tables = {name: str(table_path(folder, name)) for name in evaluation.tables}
            return StageResult(steps=1, metrics=evaluation.metrics, artifacts=tables)
        metrics: dict[str, float] = {}
        for step, (name, source) in enumerate(sources.items(), 1):
            asked = [prompt for prompt in source.next(config.prompts or len(prompts)) if not prompt.visit]  # each once
            evaluation = await context.evaluate(asked, config.samples, config.greedy, config.sampling, strategy)
            own = _of_set(name, source, evaluation)
            evaluation = evaluation.with_audit(await auditor.grades(evaluation.groups) if auditor else None)
            own |= {
                f"{name}/{key}": value
                for key, value in (evaluation.audited.metrics if evaluation.audited else {}).items()
            }
            context.record(self.name, step, own, evaluation.groups, audited=evaluation.audited)
            metrics |= own
        return StageResult(steps=len(sources), metrics=metrics)

    def _source(self, context: RunContext, name: str) -> PromptSource:
        """The source of a set. Its seed is that of the set, whatever the run's: every run is asked the same."""
        source: PromptSource = context.run.parts[f"stages.{self.name}.sets.{name}"].build(
            prompts=context.prompts.first(self._split, 0),
            seed=derive_seed(0, "evaluation", name),
            tokenizer=context.template,
        )
        return source


def _of_set(name: str, source: PromptSource, evaluation: Evaluation) -> dict[str, float]:
    source.observe(evaluation.groups)
    own = {**source.metrics(), **evaluation.measured}
    return {f"{name}/score": evaluation.score} | {f"{name}/{key}": value for key, value in own.items()}
