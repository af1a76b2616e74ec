"""Supervised fine-tuning on prompts that bring a target text: cross-entropy over the target's tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raylign.checkpoint import Checkpoints
from raylign.columns import Columns
from raylign.config.schema import Node, OptimConfig, node
from raylign.contracts import Objective, Stage, StageResult, StageSettings
from raylign.data.identity import identity_of_samples
from raylign.recipes.stages.context import RunContext, StopRequested
from raylign.recipes.stages.demonstrations import demonstrations
from raylign.records import Sample


class Sft(Stage):
    """Fit the policy to targets, until the last step or until held-out samples reach a pass rate."""

    @dataclass
    class Config(StageSettings):
        """Numbers of the stage. One step = `batch_size` rows."""

        steps: int = 1000
        batch_size: int = 64
        optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-5))
        objective: Node = node(Objective, "raylign.objectives.cross_entropy.CrossEntropy")
        eval_every: int = 0  # steps between evaluations of the sampled pass rate; 0: never
        eval_prompts: int = 128
        stop_at: float | None = None  # pass rate of sampled held-out answers that ends the stage early
        all_turns: bool = False  # loss on the assistant turns within the prompts, too

        def __post_init__(self) -> None:
            if self.stop_at is not None and not self.eval_every:
                raise ValueError("stop_at needs eval_every > 0: the pass rate is only known after an evaluation")

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """Engines and rewards are needed for the pass rate only."""
        return frozenset({"learner", "rollout", "rewards"} if config.eval_every else {"learner"})

    async def run(self, context: RunContext) -> StageResult:
        """Train, from the newest checkpoint if there is one; export the model."""
        config, folder = self.config, context.folder.stage(self.name)
        checkpoints = Checkpoints(folder / "checkpoints", context.cfg.run.keep_checkpoints)
        rows = self.rows(context)
        identity = identity_of_samples(rows)
        found = checkpoints.newest()
        if found:
            identity.check(found.state.get("data"))
        learner = await context.learner(config.optim, config.steps)
        start = found.step if found else 0
        context.begin(self.name, config.steps, start)
        if found:
            await learner.restore(str(found.folder / "learner"))
            context.recorder.event("resumed", stage=self.name, checkpoint=str(found.folder))
        batches, metrics, published, step = batches_of(rows, config.batch_size, context.cfg.seed, start), {}, False, 0
        self._phase(context, start, "learn")
        for step in range(start, config.steps):
            metrics = await learner.update(next(batches), config.objective)
            published = bool(config.eval_every) and (step + 1) % config.eval_every == 0
            if published:
                self._phase(context, step, "start")
                await asyncio.gather(context.rollouts(), context.rewards())
                self._phase(context, step, "evaluate")
                metrics |= await self._pass_rate(context, learner, step + 1)
                self._phase(context, step + 1, "learn")
            context.record(self.name, step + 1, metrics)
            done = config.stop_at is not None and metrics.get("eval/score", 0.0) >= config.stop_at
            every, stop = context.cfg.run.save_every, context.stop_requested
            if stop or (every and (step + 1) % every == 0):
                self._phase(context, step, "save")
                await checkpoints.save(step + 1, {"data": identity.state()}, lambda path: _write(learner, path))
                self._phase(context, step + 1, "learn")
            if done:
                break
            if stop:
                raise StopRequested(f"{self.name}: stopped after step {step + 1} of {config.steps}")
        await learner.export(str(folder / "model"))
        context.hand_over(folder / "model", published=published)
        return StageResult(model=str(folder / "model"), steps=step + 1, metrics=metrics)

    def rows(self, context: RunContext) -> list[Sample]:
        """What is imitated: the training prompts that bring a target."""
        return demonstrations(context.prompts.train, context.template, self.config.all_turns)

    def _phase(self, context: RunContext, step: int, phase: str) -> None:
        """Only changes are recorded: a step is much shorter than one of RL."""
        context.recorder.event("phase", stage=self.name, stage_step=step, phase=phase)

    async def _pass_rate(self, context: RunContext, learner: Any, step: int) -> dict[str, float]:
        """Score of sampled (not greedy) answers: what reinforcement learning would start from."""
        rollouts = await context.rollouts()
        await rollouts.publish(await learner.publish(step))
        found = await context.evaluate(context.prompts.holdout[: self.config.eval_prompts], greedy=False)
        return found.metrics


def batches_of(rows: Sequence[Sample], size: int, seed: int, start: int) -> Iterator[Columns]:
    """Batches from step `start` on: every epoch is a permutation drawn from (seed, epoch); the last part is kept."""
    per_epoch = max(1, -(-len(rows) // size))
    step = start
    while True:
        epoch, index = divmod(step, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(rows))
        yield Columns.from_samples([rows[i] for i in order[index * size : (index + 1) * size]])
        step += 1


async def _write(learner: Any, folder: Path) -> None:
    await learner.save(str(folder / "learner"))
