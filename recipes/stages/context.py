"""What the stages of one run share: its folder, data, cluster, and the role groups, started when first asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from raylign.actors.environments.actor import EnvironmentActors, EnvironmentSpec
from raylign.actors.judge.group import JudgeGroup
from raylign.actors.learner.group import LearnerGroup, LearnerSpec
from raylign.actors.reward.pools import RewardPools
from raylign.actors.rollout.pool import VllmRolloutPool
from raylign.actors.routed import RoutedModel, RoutedScorer, same_vocabulary
from raylign.actors.scorer import ScorerGroup
from raylign.actors.starting import in_order
from raylign.chat.template import ChatTemplate
from raylign.collect import DRAWN
from raylign.columns import Columns
from raylign.config.resolve import Run
from raylign.config.sampling import sampling_of
from raylign.config.schema import (
    Config,
    JudgeConfig,
    LearnerConfig,
    OptimConfig,
    Past,
    SamplingConfig,
    ScorerConfig,
)
from raylign.contracts import RewardShaper, Sampling, StreamScorer
from raylign.data.prompts import PromptSet, load_prompts, refuse_doubts
from raylign.errors import ConfigError, LearnerError, Problem, RunError
from raylign.evaluate import Evaluation, Evaluator
from raylign.models.tiny import build_tiny_model, model_cache
from raylign.models.tokenizer import load_tokenizer
from raylign.placement import Placement
from raylign.recipes.stages.outcome import refuse_lost
from raylign.records import Group, Prompt
from raylign.run_folder import RunFolder
from raylign.telemetry.alarms import Alarms
from raylign.telemetry.progress import Progress
from raylign.telemetry.recorder import Recorder, read_lines


class StopRequested(Exception):
    """SIGTERM, Ctrl-C or an alarm: the stage saved its state and the same command continues it."""


class RunContext:
    """Shared by the stages of one run; `model_path` is the lineage: the model that the next stage starts from."""

    def __init__(
        self,
        run: Run,
        folder: RunFolder,
        recorder: Recorder,
        progress: Progress,
        placement: Placement,
    ) -> None:
        self.run = run
        cfg = run.config
        self.folder = folder
        self.recorder = recorder
        self.progress = progress
        self.placement = placement
        self.shared = placement.plan.shared  # whether roles share devices, and so start one after the other
        self.alarms = Alarms(cfg.alarms)
        self.stop_requested = False
        self.recorded = False  # any step of the present stage: before the first a stop costs nothing
        self.first_step = 0  # steps of the run before this stage: recorded steps count over all stages
        self.model_path = cfg.model.path or str(build_tiny_model(cfg.model.tiny, model_cache(cfg.run.cache_dir)))
        self.start_model = self.model_path
        self.tokenizer = load_tokenizer(self.model_path, cfg.model.trust_remote_code)
        self._rollouts: VllmRolloutPool | None = None
        self._rollout_model = ""
        self._ahead: asyncio.Task[Any] | None = None  # the start of the rollout pool before a stage asks for it
        self._rebuilt = 0  # rollout workers, as far as recorded
        self._environments: EnvironmentActors | None = None
        self._rewards: RewardPools | None = None
        self._judges: dict[str, JudgeGroup] = {}
        self._judging = asyncio.Lock()
        self._learners: dict[str, LearnerGroup] = {}
        self._scorers: dict[str, tuple[str, ScorerGroup]] = {}  # name -> (loaded path, group)

    @property
    def cfg(self) -> Config:
        """The run's settings."""
        return self.run.config

    @cached_property
    def template(self) -> ChatTemplate:
        """The policy's chat template with the arguments that the run gives it."""
        return ChatTemplate(self.tokenizer, self.cfg.model.template_args, fresh=self.cfg.rollout.past is Past.fresh)

    @cached_property
    def prompts(self) -> PromptSet:
        """The run's prompts, read when a stage first asks for them (one that learns from pairs never does)."""
        found = load_prompts(self.cfg.data, self.template, self.cfg.seed)
        self.progress.message(str(found.report))
        return found

    @property
    def sampling(self) -> Sampling:
        """The run's sampling settings as a record."""
        return sampling_of(self.cfg.rollout.sampling)

    def shaper(self, stage: str = "") -> RewardShaper:
        """A fresh shaper: the one that a stage brings, or the run's."""
        part = self.run.part("shaper", stage)
        shaper: RewardShaper = part.build(weights=self._weights, max_tokens=self.cfg.rollout.sampling.max_tokens)
        return shaper

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
        batch: Columns | None = None,
        *,
        rows: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Write down step `step` (from 1) of a stage, show it, raise its alarms. rows: as `Recorder.rollouts`."""
        metrics = {**metrics, **self._workers(stage)}
        self.recorder.metrics(self.first_step + step, metrics, stage)
        if groups:
            self.recorder.rollouts(self.first_step + step, groups, batch, rows, stage)
        self.progress.step(step, metrics)
        self.recorded = True
        refuse_lost(stage, step, metrics)
        for alarm in self.alarms.step(metrics):
            self.recorder.event("alarm", stage=stage, stage_step=step, **alarm.fields())
            self.progress.message(str(alarm))
            self.stop_requested |= alarm.stop

    def _workers(self, stage: str) -> dict[str, float]:
        """Rollout workers that serve, and how many were rebuilt since the last record; nothing where there are none."""
        if self._rollouts is None:
            return {}
        before, self._rebuilt = self._rebuilt, self._rollouts.restarts
        if self._rebuilt > before:
            self.recorder.event("engines_restarted", stage=stage, role="rollout", count=self._rebuilt - before)
        return {"restarts/rollout": float(self._rebuilt - before), "workers/rollout": float(self._rollouts.alive)}

    def start_engines(self) -> None:
        """Start the rollout pool, if there is none, beside what the stage does until it asks for it."""
        if self._rollouts is None and self._ahead is None:
            self._ahead = asyncio.ensure_future(self.rollouts())

    async def rollouts(self) -> VllmRolloutPool:
        """The rollout pool; its engines hold `model_path` or what was last published to them."""
        if self._ahead is not None and self._ahead is not asyncio.current_task():
            await self._ahead
        await self.judges()
        if self._rollouts is not None and self._rollout_model != self.model_path:
            await self._rollouts.close()
            self._rollouts = None
        environment = EnvironmentSpec.of(self.cfg.environment)
        if environment is not None and environment.actors and self._environments is None:
            self._environments = EnvironmentActors(
                environment, self.log_dir, lambda index: self.placement.options("environment", index)
            )
            await self._environments.start()
        if self._rollouts is None:
            self._rollouts = VllmRolloutPool(
                self.cfg.rollout,
                self.cfg.model,
                self.model_path,
                log_dir=self.log_dir,
                environment=environment,
                options=lambda index: self.placement.options("rollout", index),
                deadline_s=self.cfg.run.deadline_s,
            )
            if self.shared:
                self._rollouts.share_device(self.placement.plan.role("rollout").kv_bytes, self._make_room)
            self._rollout_model, self._rebuilt = self.model_path, 0
            await self._rollouts.start()
        return self._rollouts

    async def rewards(self) -> RewardPools:
        """The reward pools, proven on gold and wrong answers before they are first used."""
        if any(str(reward.fn.get("_target_", "")).endswith("router.Verifier") for reward in self.cfg.rewards.values()):
            refuse_doubts(self.prompts)
        await self.judges()
        if self._rewards is None:
            self._rewards = RewardPools(
                self.cfg.rewards,
                log_dir=self.log_dir,
                options=lambda name, index: self.placement.options(f"reward/{name}", index),
            )
            await self._rewards.start()
            await self._rewards.validate(self.prompts.train)
        return self._rewards

    async def judges(self) -> None:
        """Start the served chat models, once, before anybody who may ask them. Raises EngineDeadError, RunError."""
        async with self._judging:
            wanted = {name: judge for name, judge in self.cfg.judges.items() if name not in self._judges}
            self._judges |= {name: self._judge(name, judge) for name, judge in wanted.items()}
            await in_order([self._judges[name].start for name in wanted], self.shared)

    def _judge(self, name: str, config: JudgeConfig) -> JudgeGroup:
        path = config.path or self.start_model
        group = JudgeGroup(
            name,
            config,
            path if config.endpoint else self.model_of(path),
            dtype=self.cfg.model.dtype,
            trust_remote_code=self.cfg.model.trust_remote_code,
            log_dir=self.log_dir,
            options=lambda index: self.placement.options(f"judge/{name}", index),
            deadline_s=self.cfg.run.deadline_s,
        )
        group.share_device(self.placement.plan.role(f"judge/{name}").kv_bytes)
        return group

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

    async def learner(self, optim: OptimConfig, total_steps: int) -> LearnerGroup:
        """The policy's learner, loaded from `model_path` with a new optimizer."""
        return await self._learner("learner", "causal_lm", self.model_path, self._ranks(optim), total_steps)

    async def critic(self, total_steps: int) -> LearnerGroup:
        """The value model, started from its own path or the policy's weights."""
        config = self._ranks(self.cfg.critic.optim, self.cfg.critic.ranks)
        path = self.cfg.critic.path or self.model_path
        return await self._learner("critic", "scalar_head", path, config, total_steps)

    async def scorers(self, streams: Collection[str], prompts: Sequence[Prompt]) -> dict[str, StreamScorer]:
        """Who fills each of these streams, of those that any scorer of the run fills; started, and checked to answer
        for all of these prompts. A scorer without a path is a frozen copy of `model_path`.

        Raises ConfigError on a model with another vocabulary, DataError on a domain without a model.
        """
        wanted = {name: scorer for name, scorer in self.cfg.scorers.items() if scorer.stream in streams}
        models = await in_order([partial(self._scorer, name, scorer) for name, scorer in wanted.items()], self.shared)
        found: dict[str, StreamScorer] = {}
        for stream in sorted({scorer.stream for scorer in wanted.values()}):
            chosen = [model for model in models if wanted[model.name].stream == stream]
            routed = RoutedScorer(stream, chosen)
            routed.check(prompts)
            found[stream] = routed
        return found

    async def _scorer(self, name: str, scorer: ScorerConfig) -> RoutedModel:
        path = self.model_of(scorer.path)
        tokenizer = load_tokenizer(path, self.cfg.model.trust_remote_code) if scorer.path else self.tokenizer
        same_vocabulary(self.tokenizer, tokenizer, f"scorers.{name}.path", path)
        loaded, group = self._scorers.get(name, ("", None))
        if group is None or loaded != path:
            if group is not None:
                await group.close()
            learner = replace(self.cfg.learner, ranks=1, gpus=scorer.gpus, cpus=scorer.cpus)
            group = ScorerGroup(
                LearnerSpec.of(self.cfg, "causal_lm", path, learner, 0),
                name=name,
                log_dir=self.log_dir,
                options=lambda index: self.placement.options(f"scorer/{name}", index),
                restarted=lambda cause: self._replaced(name, cause),
            )
            self._scorers[name] = (path, group)
            await group.start()
        if self.template.fresh and (scorer.own_template or scorer.context):
            why = "the context of a frozen model stands for the first one of an episode only"
            fix = "set rollout.past=keep, or leave own_template and context out"
            raise ConfigError([Problem(key="rollout.past", value="fresh", why=f"{why} (scorers.{name})", fix=fix)])
        own = ChatTemplate(tokenizer, scorer.template_args) if scorer.own_template else None
        extra = self.run.parts[f"scorers.{name}.context"].build() if scorer.context else None
        return RoutedModel(
            name=name,
            scorer=group,
            domain=scorer.domain,
            tokenizer=self.template if own is None and extra is not None else own,
            context=extra,
        )

    async def _make_room(self) -> None:
        """Before an engine is rebuilt the others give back what they only keep; a dead one says so at its next call."""
        groups: list[Any] = [*self._learners.values(), *(group for _, group in self._scorers.values())]
        await asyncio.gather(*(group.free_cache() for group in groups), return_exceptions=True)

    def _replaced(self, name: str, cause: LearnerError) -> None:
        self.recorder.event("scorer_restarted", scorer=name, cause=str(cause))
        self.progress.message(f"scorer {name} died and is replaced: {cause}")

    async def end_learners(self) -> None:
        """End policy and critic; the next call of `learner` or `critic` starts new ranks."""
        groups = list(self._learners.values())
        self._learners.clear()
        await asyncio.gather(*(group.close() for group in groups), return_exceptions=True)

    async def end_scorers(self) -> None:
        """End the frozen models, for a stage that has asked them all it wants to know."""
        groups = [group for _, group in self._scorers.values()]
        self._scorers.clear()
        await asyncio.gather(*(group.close() for group in groups))

    def model_of(self, path: str) -> str:
        """The folder that a path of the configuration means: empty is the lineage's model, ``@NAME`` what the stage
        of that name exported. Raises RunError when that stage has exported none.
        """
        if not path.startswith("@"):
            return path or self.model_path
        result = self.folder.stage_result(path[1:])
        if result is None or not result.model:
            done = [name for name in self.cfg.stages if self.folder.stage_result(name)]
            raise RunError(f"{path} names no finished stage with a model; finished: {', '.join(done) or 'none'}")
        return result.model

    def hand_over(self, model_path: Path, published: bool) -> None:
        """Make a stage's model the start of the next. published: the rollout engines hold exactly these weights."""
        self.model_path = str(model_path)
        if published:
            self._rollout_model = self.model_path

    async def close(self) -> None:
        """End every actor that was started."""
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)
        scorers = [group for _, group in self._scorers.values()]
        judges = self._judges.values()
        groups = (self._rollouts, self._environments, self._rewards, *scorers, *self._learners.values(), *judges)
        await asyncio.gather(*(group.close() for group in groups if group is not None), return_exceptions=True)

    @property
    def missing_limits(self) -> dict[str, float]:
        """Share of failed draws, and of missing values of each reward, that a step or an evaluation may have."""
        limits = {name: reward.max_missing for name, reward in self.cfg.rewards.items()}
        return {DRAWN: self.cfg.rollout.max_missing, **limits}

    @property
    def log_dir(self) -> Path:
        """Where the actors write what they print."""
        return self.folder.path / "logs"

    @property
    def _weights(self) -> dict[str, float]:
        return {name: reward.weight for name, reward in self.cfg.rewards.items()}

    def _ranks(self, optim: OptimConfig, ranks: int = 0) -> LearnerConfig:
        merged = OmegaConf.merge(OmegaConf.structured(self.cfg.learner), {"optim": OmegaConf.structured(optim)})
        config: LearnerConfig = OmegaConf.to_object(merged)  # type: ignore[assignment]
        config.ranks = ranks or config.ranks
        return config

    async def _learner(self, role: str, kind: str, path: str, config: LearnerConfig, steps: int) -> LearnerGroup:
        group = self._learners.get(role)
        if group is None:
            group = LearnerGroup(
                role,
                config,
                log_dir=self.log_dir,
                options=lambda index: self.placement.options(role, index),
                collectives_s=self.cfg.run.deadline_s,
            )
            self._learners[role] = group
            await group.start()
        await group.load(LearnerSpec.of(self.cfg, kind, path, config, steps))
        return group
