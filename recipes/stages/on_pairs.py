"""What stages that learn from pairs share: their rows, their steps, their held-out figures."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from raylign.batch import Batch
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import DataConfig, LoraConfig, Node, OptimConfig, node, undropped
from raylign.contracts import Learner, Objective, Stage, StageResult, StageSettings
from raylign.data.identity import identity_of_rows
from raylign.data.pairs import Pair, PairSet, Truncation
from raylign.errors import Problem
from raylign.objectives.loss.pairs import pair_rows
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.reading import Reading
from raylign.recipes.stages.training import TrainedModel, Training
from raylign.records import Row


@dataclass
class PairSettings(StageSettings):
    """Numbers of a stage that learns from pairs. One step = `batch_pairs` pairs."""

    epochs: float = 1.0
    steps: int = 0  # 0: as many as `epochs` take
    batch_pairs: int = 64
    objective: Node = node(Objective)
    optim: OptimConfig = field(default_factory=OptimConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)  # rank above 0: adapters are trained, not all weights
    warmup_share: float = 0.1  # of all steps; used when optim.warmup_steps is 0
    max_tokens: int = 2048  # prompt and answer; a prompt alone: data.max_prompt_tokens
    truncation: Truncation = Truncation.left
    eval_every: int = 0  # steps between evaluations on the held-out pairs; 0: before and after only

    def __post_init__(self) -> None:
        if self.batch_pairs < 1 or self.max_tokens < 2:
            name = "batch_pairs" if self.batch_pairs < 1 else "max_tokens"
            raise ValueError(f"{name} is {getattr(self, name)}, set it to {1 if name == 'batch_pairs' else 2} or more")
        if self.epochs <= 0:
            raise ValueError(f"epochs is {self.epochs}, set it above 0")
        if not 0 <= self.warmup_share < 1:
            raise ValueError(f"warmup_share={self.warmup_share} must be at least 0 and below 1")


class OnPairs(Stage):
    """One update a batch of pairs, from the newest checkpoint if there is one. `Config` derives from `PairSettings`."""

    settings = PairSettings
    kind: ClassVar[str] = "causal_lm"  # forward kind of the learner
    unread: ClassVar[tuple[str, ...]] = ("answer_key", "verifier")  # settings of `data` that mean nothing for it

    @classmethod
    def roles(cls, config: Any) -> frozenset[str]:
        """A learner; frozen models follow from what the objective needs."""
        return frozenset({"learner"})

    @classmethod
    def problems(cls, key: str, config: Any, run: Run) -> list[Problem]:
        """Lengths that do not fit, and settings of data that are no pairs."""
        problems, context = Findings(), run.config.model.max_context
        fix = f"set {key}.max_tokens={context}, or model.max_context={config.max_tokens} where the model allows it"
        why = f"is more than model.max_context={context}"
        problems.expect(config.max_tokens <= context, f"{key}.max_tokens", config.max_tokens, why, fix)
        asked, cuts = run.config.data.max_prompt_tokens, config.truncation is Truncation.left
        why = f"leaves no room for an answer in {key}.max_tokens={config.max_tokens}"
        fix = f"set data.max_prompt_tokens={config.max_tokens // 2}"
        problems.expect(not cuts or asked < config.max_tokens, "data.max_prompt_tokens", asked, why, fix)
        problems += [*cls.data_problems(config, run.config.data), *undropped(key, config.lora)]
        return problems

    @classmethod
    def data_problems(cls, config: Any, data: DataConfig) -> list[Problem]:
        """What is wrong with the run's settings of data, where the stage reads its pairs by them."""
        problems = Findings("data")
        for name in cls.unread:
            value, why = getattr(data, name), "means nothing for pairs: chosen and rejected are their answers"
            problems.expect(not value, name, value, why, f"set data.{name}=")
        why = "pairs are read by their columns prompt, chosen and rejected"
        problems.expect(data.format in ("auto", "trl"), "format", data.format, why, "set data.format=auto")
        return problems

    @classmethod
    def pairs(cls, config: Any, reading: Reading, data: DataConfig, model: str) -> PairSet:
        """The pairs of the stage. model: folder or id of what it starts from."""
        return reading.pairs(data, config.max_tokens, config.truncation)

    async def run(self, context: RunContext) -> StageResult:
        """Make the rows, train from the newest checkpoint if there is one, export the model."""
        config, folder = self.config, context.folder.stage(self.name)
        objective: Objective = context.run.parts[f"stages.{self.name}.objective"].build()
        pairs = await asyncio.to_thread(self.pairs, config, context.reading, context.data, context.lineage.model)
        context.progress.message(str(pairs.report))
        steps = config.steps or max(1, round(config.epochs * -(-len(pairs.train) // config.batch_pairs)))
        identity = await asyncio.to_thread(identity_of_rows, self.rows((*pairs.train, *pairs.holdout)))
        training = await asyncio.to_thread(Training, context, self.name, steps, identity)
        context.phase(self.name, 0, "score")
        train, held_out = await self.batches(context, pairs, objective)
        optim, total = self._optim(steps), steps + 1  # the schedule ends after the last step
        learner = await context.learner(optim, total, config.lora, self.kind)
        trained = TrainedModel(learner)
        await training.resume(trained)
        kept = training.kept
        if not training.newest:
            kept["before"] = await self._held_out(learner, held_out, objective, "before")
            context.recorder.event("held_out", stage=self.name, **kept["before"])
        batches = pair_batches(train, config.batch_pairs, context.cfg.seed, training.start)
        async for step in training.steps(trained):
            context.phase(self.name, step, "learn")
            metrics = dict((await learner.update(self.shown(next(batches)), config.objective)).metrics)
            if step + 1 == steps or (config.eval_every and (step + 1) % config.eval_every == 0):
                kept["after"] = await self._held_out(learner, held_out, objective, "eval")
                metrics |= kept["after"]
            context.record(self.name, step + 1, metrics)
        await learner.export(str(folder / "model"))
        artifacts = await self.left(context, folder / "model")
        return StageResult(steps=steps, metrics={**kept["before"], **kept["after"]}, artifacts=artifacts)

    @abstractmethod
    def rows(self, pairs: Sequence[Pair]) -> list[Row]:
        """The learner's rows of some pairs: two of each, chosen first."""

    async def batches(self, context: RunContext, pairs: PairSet, objective: Objective) -> tuple[Batch, Batch | None]:
        """Training and held-out rows; None where nothing is held out."""
        train = await asyncio.to_thread(lambda: Batch.from_rows(self.rows(pairs.train)))
        return train, Batch.from_rows(self.rows(pairs.holdout)) if pairs.holdout else None

    def shown(self, batch: Batch) -> Batch:
        """What the objective sees of a batch of pairs."""
        return batch

    @abstractmethod
    async def figures(self, learner: Learner, rows: Batch, objective: Objective) -> Mapping[str, float]:
        """Metrics of held-out pairs."""

    @abstractmethod
    async def left(self, context: RunContext, model: Path) -> dict[str, str]:
        """The artifacts. model: the exported folder."""

    async def _held_out(
        self, learner: Learner, rows: Batch | None, objective: Objective, prefix: str
    ) -> dict[str, float]:
        """As ``<prefix>/<metric>``; none when nothing is held out."""
        metrics = {} if rows is None else await self.figures(learner, rows, objective)
        return {f"{prefix}/{name}": value for name, value in metrics.items()}

    def _optim(self, steps: int) -> OptimConfig:
        optim: OptimConfig = self.config.optim
        return replace(optim, warmup_steps=optim.warmup_steps or round(self.config.warmup_share * steps))


def pair_batches(rows: Batch, size: int, seed: int, start: int) -> Iterator[Batch]:
    """Batches of `size` pairs from step `start` on: every epoch a permutation drawn from (seed, epoch), in full."""
    chosen, rejected = pair_rows(rows)
    per_epoch = max(1, -(-len(chosen) // size))
    step = start
    while True:
        epoch, index = divmod(step, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(chosen))[index * size : (index + 1) * size]
        yield rows.select(np.stack([chosen[order], rejected[order]], axis=1).reshape(-1))
        step += 1
