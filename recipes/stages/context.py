"""What the stages of one run share: its settings, folder, data, lineage and actors, and its records."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from raylign.actors.learner.group import LearnerGroup
from raylign.actors.reward.pools import RewardPools
from raylign.actors.roles import Roles
from raylign.actors.rollout.pool import VllmRolloutPool
from raylign.batch import Batch
from raylign.config.resolve import Run
from raylign.config.sampling import sampling_of
from raylign.config.schema import Config, OptimConfig, SamplingConfig
from raylign.contracts import FrozenStream, RewardShaper, Sampling
from raylign.data.prompts import PromptSet, refuse_doubts
from raylign.evaluate import Evaluation, Evaluator
from raylign.loop.reward_metrics import SAMPLED
from raylign.placement import Placement
from raylign.recipes.stages.actor_figures import ActorFigures
from raylign.recipes.stages.lineage import Lineage
from raylign.recipes.stages.outcome import refuse_lost
from raylign.recipes.stages.reading import Reading
from raylign.records import Group, Prompt
from raylign.run_folder import RunFolder
from raylign.telemetry.alarms import Alarms
from raylign.telemetry.progress import Progress
from raylign.telemetry.recorder import Recorder, read_lines


class StopRequested(Exception):
    """SIGTERM, Ctrl-C or an alarm: the stage saved its state and the same command continues it."""


class RunContext:
    """Shared by the stages of one run."""

    def __init__(
        self,
        run: Run,
        folder: RunFolder,
        recorder: Recorder,
        progress: Progress,
        placement: Placement,
        *,
        reading: Reading | None = None,
    ) -> None:
        self.run = run
        self.reading = reading or Reading(run)
        self.folder = folder
        self.recorder = recorder
        self.progress = progress
        self.alarms = Alarms(run.config.alarms)
        self.stop_requested = False
        self.recorded = False  # any step of the present stage: before the first a stop costs nothing
        self.first_step = 0  # steps of the run before this stage: recorded steps count over all stages
        self.figures = ActorFigures(recorder.event)
        start = self.reading.start
        self.lineage = Lineage(start, folder, list(run.config.stages))
        self.tokenizer, self.template = self.reading.tokenizer, self.reading.template
        self.roles = Roles(
            run,
            placement,
            log_dir=folder.path / "logs",
            template=self.template,
            start_model=start,
            model_of=self.lineage.of,
            told=self.event,
        )

    @property
    def cfg(self) -> Config:
        """The run's settings."""
        return self.run.config

    @cached_property
    def prompts(self) -> PromptSet:
        """The run's prompts, read when a stage first asks for them (one that learns from pairs never does)."""
        prompts = self.reading.prompts
        self.progress.message(self.reading.told)
        return prompts

    async def read_prompts(self) -> PromptSet:
        """The run's prompts, read and tokenised in a thread: that takes seconds."""
        return await asyncio.to_thread(lambda: self.prompts)

    @property
    def sampling(self) -> Sampling:
        """The run's sampling settings as a record."""
        return sampling_of(self.cfg.rollout.sampling)

    @property
    def missing_limits(self) -> dict[str, float]:
        """Share of failed samples, and of missing values of each reward, that a step or an evaluation may have."""
        limits = {name: reward.max_missing for name, reward in self.cfg.rewards.items()}
        return {SAMPLED: self.cfg.rollout.max_missing, **limits}

    def shaper(self, stage: str = "") -> RewardShaper:
        """A fresh shaper: the one that a stage brings, or the run's."""
        shaper: RewardShaper = self.run.part("shaper", stage).build(
            weights=self._weights,
            max_tokens=self.cfg.rollout.sampling.max_tokens,
            tokenizer=self.template,
            seed=self.cfg.seed,
        )
        return shaper

    # ---------------------------------------------------------------------------------------------- what is recorded

    def event(self, name: str, message: str = "", **facts: Any) -> None:
        """Record an event; a message is shown as well."""
        self.recorder.event(name, **facts)
        if message:
            self.progress.message(message)

    def phase(self, stage: str, step: int, phase: str) -> None:
        """A phase of a step (from 0) begins."""
        self.recorder.event("phase", stage=stage, stage_step=step, phase=phase)

    def begin(self, stage: str, total: int, done: int) -> None:
        """A stage starts, or goes on after `done` of its steps: forget what was recorded beyond that point."""
        self.recorder.truncate(self.first_step + done)
        recorded = read_lines(self.folder.path / "metrics.jsonl")
        self.alarms.begin([line for line in recorded if line["stage"] == stage])
        self.progress.start(stage, total, done)

    def record(
        self,
        stage: str,
        step: int,
        metrics: Mapping[str, float],
        groups: Sequence[Group] = (),
        batch: Batch | None = None,
        *,
        rows: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Write down step `step` (from 1) of a stage, show it, raise its alarms. rows: as `Recorder.rollouts`."""
        metrics = {**metrics, **self.figures.take(stage, self.roles.pool, self.roles.reward_pools)}
        self.recorder.metrics(self.first_step + step, metrics, stage)
        if groups:
            self.recorder.rollouts(self.first_step + step, groups, batch, rows, stage)
        self.progress.step(step, metrics)
        self.recorded = True
        refuse_lost(stage, step, metrics)
        for alarm in self.alarms.step(metrics):
            self.event("alarm", str(alarm), stage=stage, stage_step=step, **alarm.fields())
            self.stop_requested |= alarm.stop

    # ------------------------------------------------------------------------------------------- the present model's

    async def rollouts(self, publishes: bool = False) -> VllmRolloutPool:
        """The rollout pool with the present model. publishes: the stage puts its own weights in before it samples."""
        return await self.roles.rollouts(self.lineage.model, publishes)

    async def rewards(self) -> RewardPools:
        """The reward pools, proven on the run's prompts."""
        if self.reading.judged:
            refuse_doubts(await self.read_prompts())
        return await self.roles.rewards((await self.read_prompts()).train)

    async def learner(self, optim: OptimConfig, total_steps: int) -> LearnerGroup:
        """The policy's learner, loaded from the present model."""
        return await self.roles.learner(self.lineage.model, optim, total_steps)

    async def critic(self, total_steps: int) -> LearnerGroup:
        """The value model, started from its own path or the present model."""
        return await self.roles.critic(self.lineage.model, total_steps)

    async def frozen(self, streams: Collection[str], prompts: Sequence[Prompt]) -> dict[str, FrozenStream]:
        """The frozen model that fills each of these streams, by stream; started when needed (`FrozenModels.fill`)."""
        return await self.roles.frozen.fill(streams, prompts, self.roles.shared)

    async def evaluate(
        self,
        prompts: Sequence[Prompt],
        samples: int = 1,
        greedy: bool = True,
        sampling: SamplingConfig | None = None,
    ) -> Evaluation:
        """Score the policy that the engines hold on some prompts. sampling: None takes the run's."""
        rollouts, rewards = await asyncio.gather(self.rollouts(), self.rewards())
        evaluator = Evaluator(
            rollouts=rollouts,
            rewards=rewards,
            weights=self._weights,
            shaper=self.shaper(),
            sampling=self.sampling if sampling is None else sampling_of(sampling),
            seed=self.cfg.seed,
            stall_s=self.cfg.run.stall_s,
            missing_limits=self.missing_limits,
        )
        return await evaluator.run(prompts, samples, greedy)

    def hand_over(self, model: Path, published: bool) -> None:
        """Make a stage's model the start of the next. published: the rollout engines hold exactly these weights."""
        self.lineage.model = str(model)
        if published:
            self.roles.weights = self.lineage.model

    @property
    def _weights(self) -> dict[str, float]:
        return {name: reward.weight for name, reward in self.cfg.rewards.items()}
