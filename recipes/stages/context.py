"""What a stage works with: the records and models of its run, its prompts, and how these are sampled and scored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property

from raylign.actors.reward.pools import RewardPools
from raylign.actors.rollout.pool import VllmRolloutPool
from raylign.audit.auditor import Auditor
from raylign.config.sampling import sampling_of
from raylign.config.schema import DataConfig, SampledSettings, SamplingConfig
from raylign.contracts import RewardShaper, Sampling, StrategySpec
from raylign.data.prompts import PromptSet, refuse_doubts
from raylign.evaluate import Evaluation, Evaluator, write_tables
from raylign.loop.reward_metrics import SAMPLED
from raylign.recipes.stages.models import RunModels
from raylign.recipes.stages.prompt_sets import PromptSets, data_of, judged
from raylign.records import Prompt


class StopRequested(Exception):
    """SIGTERM, Ctrl-C or an alarm: the stage saved its state and the same command continues it."""


class RunContext(RunModels):
    """Shared by the stages of one run. What the present stage brings of its own counts in place of the run's."""

    @property
    def name(self) -> str:
        """Of the present stage; empty before the first."""
        return self.stage.name if self.stage else ""

    @property
    def settings(self) -> SampledSettings:
        """What the present stage brings to its sampling."""
        config = self.stage.config if self.stage else None
        return config if isinstance(config, SampledSettings) else SampledSettings()

    @cached_property
    def _prompt_sets(self) -> PromptSets:
        return self.reading.sets.at_work(self.folder.path, self.progress.message, self.starting)

    @property
    def prompts(self) -> PromptSet:
        """The stage's prompts, read when they are first asked for (a stage that learns from pairs never does)."""
        return self._prompt_sets.of(self.run, self.stage)

    @property
    def unviewed(self) -> PromptSet:
        """The same prompts as they are without the stage's view."""
        return self._prompt_sets.unviewed(self.run, self.stage) if self.stage else self.prompts

    async def read_prompts(self) -> PromptSet:
        """The stage's prompts, read and tokenised in a thread: that takes seconds."""
        return await asyncio.to_thread(lambda: self.prompts)

    @property
    def data(self) -> DataConfig:
        """The settings that read the stage's rows."""
        path = self.stage.config.data if self.stage else ""
        return data_of(self.cfg.data, path, self.folder.path) if path else self.cfg.data

    @property
    def sampling(self) -> Sampling:
        """The run's sampling settings as a record."""
        return sampling_of(self.cfg.rollout.sampling)

    @property
    def weights(self) -> dict[str, float]:
        """Of the rewards that the stage asks."""
        return self.run.weights(self.name)

    @property
    def missing_limits(self) -> dict[str, float]:
        """Share of failed samples, and of missing values of each reward, that a step or an evaluation may have."""
        limits = {name: self.cfg.rewards[name].max_missing for name in self.weights}
        return {SAMPLED: self.cfg.rollout.max_missing, **limits}

    def shaper(self, stage: str = "") -> RewardShaper:
        """A fresh shaper: the one that a stage brings, or the run's."""
        shaper: RewardShaper = self.run.part("shaper", stage).build(
            weights=self.weights,
            max_tokens=self.cfg.rollout.sampling.max_tokens,
            tokenizer=self.template,
            seed=self.cfg.seed,
        )
        return shaper

    async def rollouts(self, publishes: bool = False) -> VllmRolloutPool:
        """The rollout pool with the present model. publishes: the stage puts its own weights in before it samples."""
        return await self.roles.engines.holding(self.lineage.model, publishes)

    async def strategy(self) -> StrategySpec | None:
        """The stage's own strategy in its own environment; None where it takes the run's."""
        own = self.settings
        if not (own.strategy or own.environment):
            return None
        stage = self.name if own.environment else ""
        environment = await self.roles.environment(stage, own.environment)
        return StrategySpec(node=dict(own.strategy or self.cfg.rollout.strategy), environment=environment)

    async def rewards(self) -> RewardPools:
        """The rewards that the stage asks, proven on its prompts."""
        prompts = await self.read_prompts()
        if judged(self.run, self.name):
            refuse_doubts(prompts)
        return await self.roles.rewards(self.weights, prompts.train)

    async def auditor(self) -> Auditor | None:
        """Who audits the samples of the stage, with nothing seen yet; None where the run has no graders."""
        audit = self.cfg.audit
        if not audit.graders:
            return None
        prompts = (await self.read_prompts()).train
        graders = await self.roles.graders(prompts)
        return Auditor(
            graders,
            graders.maxima,
            audit,
            seed=self.cfg.seed,
            grouped=graders.grouped,
            several=len({prompt.domain for prompt in prompts}) > 1,
        )

    async def evaluate(
        self,
        prompts: Sequence[Prompt],
        samples: int = 1,
        greedy: bool = True,
        sampling: SamplingConfig | None = None,
        strategy: StrategySpec | None = None,
    ) -> Evaluation:
        """Score the policy that the engines hold on some prompts. sampling, strategy: None takes the run's."""
        rollouts, rewards = await asyncio.gather(self.rollouts(), self.rewards())
        measures = {name: self.run.parts[f"stages.{self.name}.measures.{name}"] for name in self.settings.measures}
        evaluator = Evaluator(
            rollouts=rollouts,
            rewards=rewards,
            weights=self.weights,
            shaper=self.shaper(),
            sampling=self.sampling if sampling is None else sampling_of(sampling),
            strategy=strategy,
            measures={name: part.build() for name, part in measures.items()},
            seed=self.cfg.seed,
            stall_s=self.cfg.run.stall_s,
            missing_limits=self.missing_limits,
        )
        evaluation = await evaluator.run(prompts, samples, greedy)
        await asyncio.to_thread(write_tables, self.folder.stage(self.name), evaluation.tables)
        return evaluation
