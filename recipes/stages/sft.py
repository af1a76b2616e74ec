"""Supervised fine-tuning on prompts that bring a target text: cross-entropy over the target's tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raylign.batch import Batch
from raylign.config.resolve import Run
from raylign.config.schema import LoraConfig, Node, OptimConfig, SampledSettings, node
from raylign.contracts import MODEL, Objective, Stage, StageResult
from raylign.data.identity import identity_of_rows
from raylign.errors import Problem
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.demonstrations import demonstrations
from raylign.recipes.stages.reading import ReadStage
from raylign.recipes.stages.training import TrainedModel, Training
from raylign.records import Row

ReadRun = RunContext | ReadStage  # what rows are made from: a stage at work, or one whose rows have only been read


class Sft(Stage):
    """Fit the policy to targets, until the last step or until held-out samples reach a pass rate."""

    @dataclass
    class Config(SampledSettings):
        """Numbers of the stage. One step = `batch_size` rows."""

        steps: int = 1000
        batch_size: int = 64
        optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-5))
        objective: Node = node(Objective, "raylign.objectives.loss.cross_entropy.CrossEntropy")
        eval_every: int = 0  # steps between evaluations of the sampled pass rate; 0: never
        eval_prompts: int = 128
        stop_at: float | None = None  # pass rate of sampled held-out answers that ends the stage early
        lora: LoraConfig = field(default_factory=LoraConfig)  # rank above 0: adapters are trained, not all weights
        all_turns: bool = False  # loss on the assistant turns within the prompts, too

        def __post_init__(self) -> None:
            for name in ("steps", "batch_size"):
                if getattr(self, name) < 1:
                    raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
            if self.stop_at is not None and not 0 < self.stop_at <= 1:
                raise ValueError(f"stop_at={self.stop_at} is a pass rate: set it above 0 and to at most 1, or to null")
            if self.stop_at is not None and not self.eval_every:
                raise ValueError("stop_at needs eval_every > 0: the pass rate is only known after an evaluation")

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """Engines and rewards are needed for the pass rate only."""
        return frozenset({"learner", "rollout", "rewards"} if config.eval_every else {"learner"})

    @classmethod
    def leaves(cls, config: Config) -> tuple[str, ...]:
        """The trained model."""
        return (MODEL,)

    @classmethod
    def logs(cls, key: str, config: Config, run: Run) -> tuple[str, ...]:
        """The pass rate where it is measured, else the loss."""
        return (*(("eval/score", "eval/*") if config.eval_every else ()), "loss", "nll", "*")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """A pass rate is measured on held-out prompts, where no class of its own measures it otherwise."""
        return run.config.data.unasked() if config.eval_every and cls._pass_rate is Sft._pass_rate else []

    async def run(self, context: RunContext) -> StageResult:
        """Train, from the newest checkpoint if there is one; export the model."""
        config, folder = self.config, context.folder.stage(self.name)
        await context.read_prompts()
        rows = context.reading.demonstrated.pop(self.name, []) or await asyncio.to_thread(self.rows, context)
        identity = await asyncio.to_thread(identity_of_rows, rows)
        training = await asyncio.to_thread(Training, context, self.name, config.steps, identity)
        learner = await context.learner(config.optim, config.steps, config.lora)
        trained = TrainedModel(learner)
        await training.resume(trained)
        batches = batches_of(rows, config.batch_size, context.cfg.seed, training.start)
        published, done = False, training.start
        context.phase(self.name, done, "learn")
        async for step in training.steps(trained):
            if training.saved or published:  # only changes are recorded: a step is much shorter than one of RL
                context.phase(self.name, step, "learn")
            metrics = dict((await learner.update(next(batches), config.objective)).metrics)
            done, published = step + 1, bool(config.eval_every) and (step + 1) % config.eval_every == 0
            if published:
                context.phase(self.name, step, "start")
                await asyncio.gather(context.rollouts(publishes=True), context.rewards())
                context.phase(self.name, step, "evaluate")
                metrics |= await self._pass_rate(context, learner, step + 1)
            context.record(self.name, step + 1, metrics)
            training.kept["metrics"] = metrics
            if config.stop_at is not None and metrics.get("eval/score", 0.0) >= config.stop_at:
                reached = f"{self.name} ends at step {done} of {config.steps}: its held-out score reached stop_at"
                context.progress.message(f"{reached}={config.stop_at:g}")
                break
        await learner.export(str(folder / "model"))
        context.hand_over(folder / "model", published=published if config.eval_every else None, lora=config.lora)
        artifacts = {MODEL: str(folder / "model")}
        return StageResult(steps=done, metrics=training.kept["metrics"], artifacts=artifacts)

    def rows(self, context: ReadRun) -> list[Row]:
        """Rows of the training prompts that bring a target."""
        return demonstrations(context.prompts.train, context.template, self.config.all_turns, f"stages.{self.name}")

    async def _pass_rate(self, context: RunContext, learner: Any, step: int) -> dict[str, float]:
        """Score of sampled (not greedy) answers: what reinforcement learning would start from."""
        rollouts = await context.rollouts(publishes=True)
        await rollouts.publish(await learner.publish(step))
        evaluation = await context.evaluate(context.prompts.holdout[: self.config.eval_prompts], greedy=False)
        return evaluation.metrics


def batches_of(rows: Sequence[Row], size: int, seed: int, start: int) -> Iterator[Batch]:
    """Batches from step `start` on: every epoch is a permutation drawn from (seed, epoch); the last part is kept."""
    per_epoch = max(1, -(-len(rows) // size))
    step = start
    while True:
        epoch, index = divmod(step, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(rows))
        yield Batch.from_rows([rows[i] for i in order[index * size : (index + 1) * size]])
        step += 1
