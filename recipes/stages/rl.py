"""Reinforcement learning: the loop over steps, with evaluation, checkpoints and exact resumption."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from raylign.actors.remote import in_order
from raylign.audit.auditor import Auditor
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import LoraConfig, Node, SampledSettings, SamplingConfig, node, undropped
from raylign.contracts import (
    MODEL,
    Advantage,
    BatchShape,
    Objective,
    PromptSource,
    RewardShaper,
    Stage,
    StageResult,
    StrategySpec,
)
from raylign.data.prompts import Split
from raylign.errors import DataError, LearnerError, LoadError, Problem
from raylign.loop import Loop, LoopSettings, Parts, StepSettings
from raylign.objectives.loss.base import PolicyLoss
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.outcome import lesson
from raylign.recipes.stages.reading import ReadStage
from raylign.recipes.stages.training import Training
from raylign.records import Prompt
from raylign.run_folder import check_space


class Rl(Stage):
    """Train the policy on its own samples; see `raylign.loop`."""

    publishes = True  # its own weights to the engines, before they sample
    audited = True

    @dataclass
    class Config(StepSettings, SampledSettings):
        """Numbers of the stage, and the parts that it brings."""

        eval_every: int = 0  # 0: never
        eval_prompts: int = 0  # 0: all of the split
        eval_split: Split = Split.holdout
        eval_samples: int = 1  # of each prompt
        eval_sampling: SamplingConfig | None = None  # null: greedy, or with eval_samples > 1 as in training
        lora: LoraConfig = field(default_factory=LoraConfig)  # rank above 0: adapters are trained, not all weights
        domains: list[str] = field(default_factory=list)  # train on prompts of these domains only; empty: on all
        source: Node = node(PromptSource)  # empty: the run's
        shaper: Node = node(RewardShaper)  # empty: the run's; evaluations log by the run's in any case
        advantage: Node = node(Advantage)  # empty: the run's
        objective: Node = node(Objective)  # empty: the run's

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """What else must hold for this stage to make sense within a run."""
        findings = Findings(key)
        findings += config.step_problems(key)
        findings.positive(eval_samples=config.eval_samples)
        findings.not_negative(eval_every=config.eval_every)
        if config.eval_every and config.eval_split is Split.holdout:
            findings += run.config.data.unasked()
        shaper = run.parts.get(f"{key}.shaper") or run.parts.get("shaper")
        if config.mask_truncated and shaper and shaper.node.get("overlong_buffer"):
            why = "truncated responses would be masked and punished"
            fix = "set shaper.overlong_buffer=0, or do not mask"
            findings.append(Problem(key=f"{key}.mask_truncated", value="true", why=why, fix=fix))
        findings += [*_objective_problems(key, config, run), *undropped(key, config.lora)]
        return findings

    @classmethod
    def leaves(cls, config: Config) -> tuple[str, ...]:
        """The trained model."""
        return (MODEL,)

    @classmethod
    def batch(cls, config: Config) -> BatchShape:
        """Groups of samples of `prompts_per_step` prompts."""
        return BatchShape(
            steps=config.steps,
            prompts_per_step=config.prompts_per_step,
            group_size=config.group_size,
            minibatches=config.minibatches,
            epochs=config.epochs,
        )

    @classmethod
    def logs(cls, key: str, config: Config, run: Run) -> tuple[str, ...]:
        """The held-out score where it is measured, else the training reward."""
        return (*(("eval/score", "eval/*") if config.eval_every else ()), "reward/mean", "reward/std", "loss", "*")

    async def run(self, context: RunContext) -> StageResult:
        """Train to the last step, from the newest checkpoint if there is one; export the model."""
        folder = context.folder.stage(self.name)
        deaths = 0
        while True:
            try:
                loop = await self.loop(context)
                try:
                    await self._train(context, loop)
                finally:
                    await loop.close()
                break
            except LoadError:
                raise  # the same files fail the same way
            except LearnerError as error:
                check_space(folder)
                deaths += 1
                if deaths > context.cfg.learner.max_restarts:
                    raise
                context.recorder.event("learner_restarted", stage=self.name, deaths=deaths, cause=str(error))
                context.progress.message(f"a learner died and is restarted from the last checkpoint: {error}")
                await context.roles.end_learners()
        if said := lesson(self.name, self.config.steps, loop.version, loop.taught):
            context.event("nothing_learned", said, stage=self.name)
        await loop.parts.learner.export(str(folder / "model"))
        context.hand_over(folder / "model", published=True, lora=self.config.lora)
        return StageResult(
            steps=self.config.steps,
            metrics={"steps/taught": loop.taught / self.config.steps},
            artifacts={MODEL: str(folder / "model")},
        )

    async def _train(self, context: RunContext, loop: Loop) -> None:
        """All steps from the newest checkpoint on. Raises StopRequested once a signal's step is saved."""
        training = await asyncio.to_thread(Training, context, self.name, self.config.steps)
        await training.resume(loop)
        context.recorder.event("published", stage=self.name, **await loop.publish())
        async for step in training.steps(loop):
            result = await loop.step(step)
            metrics = result.metrics
            if self.config.eval_every and (step + 1) % self.config.eval_every == 0:
                loop.on_phase(step, "evaluate")
                metrics |= await self.evaluate(context, loop.parts.auditor, step + 1)
                loop.evaluated(metrics)
            context.record(
                self.name, step + 1, metrics, result.groups, result.batch, places=result.places, audited=result.audited
            )

    async def loop(self, context: RunContext) -> Loop:
        """The loop over this run's parts, all of them started."""
        settings = self._settings(context, await context.strategy())
        return Loop(await self._parts(context), settings, self._on_phase(context))

    async def evaluate(self, context: RunContext, auditor: Auditor | None = None, step: int = 0) -> dict[str, float]:
        """Score under the weights that are live after a step."""
        samples, sampling = self.config.eval_samples, self.config.eval_sampling
        prompts = context.prompts.first(self.config.eval_split, self.config.eval_prompts)
        evaluation = await context.evaluate(prompts, samples, samples == 1 and sampling is None, sampling)
        audited = await auditor.held_out(step, evaluation.groups) if auditor else None
        context.tell(self.name, step, audited)
        return evaluation.with_audit(audited).metrics

    def _on_phase(self, context: RunContext) -> Callable[[int, str], None]:
        return lambda step, phase: context.phase(self.name, step, phase)

    async def _parts(self, context: RunContext) -> Parts:
        cfg = context.cfg
        updates = self.config.steps * self.config.updates
        objective_node = self.config.objective or cfg.objective
        advantage = context.run.part("advantage", self.name).build()
        objective = context.run.part("objective", self.name).build()
        needs = advantage.needs | objective.needs
        prompts = self.training_prompts(context)  # what is wrong with the data is told before anything starts
        # Engines come first: they take a share of the device as it is, learners and frozen models what they need.
        starts = (
            partial(context.rollouts, publishes=True),
            context.rewards,
            context.auditor,
            partial(context.learner, cfg.learner.optim, updates, self.config.lora),
            partial(context.critic, updates) if "value" in needs else _nothing,
            partial(context.frozen, needs, prompts),
        )
        rollouts, rewards, auditor, learner, critic, frozen = await in_order(starts, context.roles.shared)
        return Parts(
            source=context.run.part("source", self.name).build(
                prompts=prompts, seed=cfg.seed, tokenizer=context.template
            ),
            rollouts=rollouts,
            rewards=rewards,
            shaper=context.shaper(self.name),
            selector=context.run.parts["selector"].build(seed=cfg.seed),
            rows=context.run.parts["rows"].build(),
            advantage=advantage,
            learner=learner,
            objective=dict(objective_node),
            objective_needs=objective.needs,
            critic=critic,
            critic_objective=dict(cfg.critic.objective) if critic else None,
            frozen=frozen,
            auditor=auditor,
        )

    def training_prompts(self, context: RunContext | ReadStage) -> list[Prompt]:
        """Those of the stage's domains. Raises DataError when there is none."""
        prompts, domains = context.prompts.train, self.config.domains
        chosen = [prompt for prompt in prompts if not domains or prompt.domain in domains]
        if not chosen:
            known = ", ".join(sorted({repr(prompt.domain) for prompt in prompts}))
            raise DataError(f"stages.{self.name}.domains={domains} leaves no training prompt; there are {known}")
        return chosen

    def _settings(self, context: RunContext, strategy: StrategySpec | None) -> LoopSettings:
        return LoopSettings(
            step=self.config,
            seed=context.cfg.seed,
            sampling=context.sampling,
            strategy=strategy,
            critic_warmup=context.cfg.critic.warmup_steps,
            missing_limits=context.missing_limits,
            stall_s=context.cfg.run.stall_s,
        )


def _objective_problems(key: str, config: Rl.Config, run: Run) -> list[Problem]:
    """Problems of the objective with these steps. An objective that cannot be built is reported elsewhere."""
    stage = next((stage for stage in run.stages if stage.key == key), None)
    problems: list[Problem] = []
    objective = run.objective(stage) if stage else None
    if objective is None:
        return problems
    place = run.part("objective", key.removeprefix("stages.")).key
    ours, kind = isinstance(objective, PolicyLoss), type(objective).__name__
    if config.staleness and not objective.corrects_staleness:
        why = f"with {key}.staleness={config.staleness} samples come from older policies, and nothing corrects for it"
        setting, fix = (
            ("mismatch.mode", f"set {place}.mismatch.mode=truncate")
            if ours
            else (
                "_target_",
                f"let {kind} correct for it and say so by `corrects_staleness = True`, or set {key}.staleness=0",
            )
        )
        problems.append(Problem(key=f"{place}.{setting}", value="none" if ours else kind, why=why, fix=fix))
    if config.updates > 1 and not objective.reuses_batches:
        why = f"{config.updates} updates a step need the log-probs from before the first of them"
        setting, fix = (
            ("old_logprob", f"set {place}.old_logprob=recompute")
            if ours
            else ("_target_", f"let {kind} hold them and say so by `reuses_batches = True`, or set one update a step")
        )
        problems.append(Problem(key=f"{place}.{setting}", value="detach" if ours else kind, why=why, fix=fix))
    return problems


async def _nothing() -> None:
    return None
