"""Reinforcement learning: the loop over steps, with evaluation, checkpoints and exact resumption."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from omegaconf import OmegaConf

from raylign.actors.starting import in_order
from raylign.checkpoint import Checkpoints
from raylign.columns import Columns
from raylign.config.resolve import Run
from raylign.config.schema import Node, SamplingConfig, node
from raylign.contracts import (
    BatchShape,
    Credit,
    Objective,
    PromptSource,
    RewardShaper,
    Stage,
    StageResult,
    StageSettings,
)
from raylign.data.prompts import Split
from raylign.errors import DataError, LearnerError, LoadError, Problem, RewardError
from raylign.loop import Loop, LoopSettings, Parts
from raylign.recipes.stages.context import RunContext, StopRequested
from raylign.records import Prompt
from raylign.run_folder import check_space


class Rl(Stage):
    """Train the policy on its own samples; see `raylign.loop`."""

    publishes = True  # its own weights to the engines, before they sample

    @dataclass
    class Config(StageSettings):
        """Numbers of the stage; samples per step = prompts_per_step * group_size."""

        steps: int = 200
        prompts_per_step: int = 64
        group_size: int = 8
        minibatches: int = 1
        epochs: int = 1
        mask_truncated: bool = False  # rows cut by a length limit keep their score but carry no loss
        dynamic_sampling: bool = False
        sampling_rounds: int = 4
        staleness: int = 0  # policy versions that rollouts may run ahead of the learner; 0: synchronous
        eval_every: int = 0  # 0: never
        eval_prompts: int = 0  # 0: all of the split
        eval_split: Split = Split.holdout
        eval_samples: int = 1  # of each prompt
        eval_sampling: SamplingConfig | None = None  # null: greedy, or with eval_samples > 1 as in training
        domains: list[str] = field(default_factory=list)  # train on prompts of these domains only; empty: on all
        source: Node = node(PromptSource)  # empty: the run's
        shaper: Node = node(RewardShaper)  # empty: the run's; evaluations log by the run's in any case
        credit: Node = node(Credit)  # empty: the run's
        objective: Node = node(Objective)  # empty: the run's

        def __post_init__(self) -> None:
            counts = ("steps", "prompts_per_step", "group_size", "minibatches", "epochs", "sampling_rounds")
            for name in (*counts, "eval_samples"):
                if getattr(self, name) < 1:
                    raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
            if self.eval_every < 0:
                raise ValueError(f"eval_every must be 0 (never) or more, got {self.eval_every}")
            if self.staleness < 0:
                raise ValueError(f"staleness must be 0 (synchronous) or more, got {self.staleness}")
            if self.prompts_per_step % self.minibatches:
                raise ValueError(
                    f"prompts_per_step ({self.prompts_per_step}) must be divisible by minibatches ({self.minibatches})"
                )

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """What else must hold for this stage to make sense within a run."""
        found = []
        if config.mask_truncated and run.part("shaper", key.removeprefix("stages.")).node.get("overlong_buffer"):
            why = "truncated responses would be masked and punished"
            fix = "set shaper.overlong_buffer=0, or do not mask"
            found.append(Problem(key=f"{key}.mask_truncated", value="true", why=why, fix=fix))
        objective = config.objective or run.config.objective
        corrected = (
            objective.get("old_logprob") == "sampler" or (objective.get("mismatch") or {}).get("mode", "none") != "none"
        )
        if config.staleness and not corrected:
            why = (
                f"with {key}.staleness={config.staleness} samples come from older policies, and nothing corrects for it"
            )
            fix = "set objective.mismatch.mode=truncate"
            found.append(Problem(key="objective.mismatch.mode", value="none", why=why, fix=fix))
        updates = config.minibatches * config.epochs
        if updates > 1 and objective.get("old_logprob", "detach") == "detach":
            why = f"{updates} updates a step need the log-probs from before the first of them"
            found.append(
                Problem(key="objective.old_logprob", value="detach", why=why, fix="set objective.old_logprob=recompute")
            )
        return found

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

    async def run(self, context: RunContext) -> StageResult:
        """Train to the last step, from the newest checkpoint if there is one; export the model."""
        folder = context.folder.stage(self.name)
        checkpoints = Checkpoints(folder / "checkpoints", context.cfg.run.keep_checkpoints)
        # The loop publishes the learner's weights before the first sample, so engines with other weights will do.
        context.hand_over(Path(context.model_path), published=True)
        deaths = 0
        while True:
            try:
                loop = await self.loop(context)
                try:
                    await self._train(context, loop, checkpoints)
                finally:
                    await loop.feed.close()
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
                await context.end_learners()
        if loop.version == 0:
            raise RewardError(
                f"{self.name}: none of {self.config.steps} steps left a group to learn from, the model is as it was; "
                "fix: see groups/* and missing/* in metrics.jsonl: prompts that are always or never solved teach "
                "nothing"
            )
        await loop.parts.learner.export(str(folder / "model"))
        context.hand_over(folder / "model", published=True)
        return StageResult(model=str(folder / "model"), steps=self.config.steps)

    async def _train(self, context: RunContext, loop: Loop, checkpoints: Checkpoints) -> None:
        """All steps from the newest checkpoint on. Raises StopRequested once a signal's step is saved."""
        start = await self._resume(context, loop, checkpoints)
        found = await loop.publish()
        context.recorder.event("published", stage=self.name, **found)
        for step in range(start, self.config.steps):
            result = await loop.step(step)
            metrics = result.metrics
            if self.config.eval_every and (step + 1) % self.config.eval_every == 0:
                loop.on_phase(step, "evaluate")
                metrics |= await self.evaluate(context)
                loop.parts.source.evaluated(metrics)
            batch = self._with_gaps(loop, result.batch)
            context.record(self.name, step + 1, metrics, result.groups, batch, rows=result.rows)
            last, stop = step + 1 == self.config.steps, context.stop_requested
            every = context.cfg.run.save_every
            if stop or last or (every and (step + 1) % every == 0):
                loop.on_phase(step, "save")
                await self._save(loop, checkpoints, step + 1)
            if stop and not last:
                raise StopRequested(f"{self.name}: stopped after step {step + 1} of {self.config.steps}")

    async def loop(self, context: RunContext) -> Loop:
        """The loop over this run's parts, all of them started."""
        return Loop(await self._parts(context), self._settings(context), self._on_phase(context))

    async def evaluate(self, context: RunContext) -> dict[str, float]:
        """Score under the weights that are live."""
        samples, sampling = self.config.eval_samples, self.config.eval_sampling
        prompts = context.prompts.first(self.config.eval_split, self.config.eval_prompts)
        found = await context.evaluate(prompts, samples, samples == 1 and sampling is None, sampling)
        return found.metrics

    def _with_gaps(self, loop: Loop, batch: Columns | None) -> Columns | None:
        """The batch with the log-probs that the learner had before it changed, where one update saw the whole batch:
        beside the sampler's they are the gap of every token (with what the policy has moved since, of stale samples).
        """
        seen = loop.parts.learner.seen() if self.config.minibatches * self.config.epochs == 1 else None
        if batch is None or seen is None or len(seen) != batch.tokens:
            return batch
        return batch.with_streams(learner_logprob=seen)

    def _on_phase(self, context: RunContext) -> Callable[[int, str], None]:
        return lambda step, phase: context.recorder.event("phase", stage=self.name, stage_step=step, phase=phase)

    async def _parts(self, context: RunContext) -> Parts:
        cfg = context.cfg
        updates = self.config.steps * self.config.minibatches * self.config.epochs
        objective_node = self.config.objective or cfg.objective
        credit = context.run.part("credit", self.name).build()
        objective = context.run.part("objective", self.name).build()
        needs = credit.needs | objective.needs
        prompts = self._prompts(context)  # what is wrong with the data is told before anything starts
        # Engines come first: they take a share of the device as it is, learners and scorers what they need.
        starts = (
            context.rollouts,
            context.rewards,
            partial(context.learner, cfg.learner.optim, updates),
            partial(context.critic, updates) if "value" in needs else _nothing,
            partial(context.scorers, needs, prompts),
        )
        rollouts, rewards, learner, critic, scorers = await in_order(starts, context.shared)
        return Parts(
            source=context.run.part("source", self.name).build(
                prompts=prompts, seed=cfg.seed, tokenizer=context.template
            ),
            rollouts=rollouts,
            rewards=rewards,
            shaper=context.shaper(self.name),
            selector=context.run.parts["selector"].build(seed=cfg.seed),
            credit=credit,
            learner=learner,
            objective=dict(objective_node),
            objective_needs=objective.needs,
            critic=critic,
            critic_objective=dict(cfg.critic.objective) if critic else None,
            scorers=scorers,
        )

    def _prompts(self, context: RunContext) -> list[Prompt]:
        prompts, domains = context.prompts.train, self.config.domains
        chosen = [prompt for prompt in prompts if not domains or prompt.domain in domains]
        if not chosen:
            known = ", ".join(sorted({repr(prompt.domain) for prompt in prompts}))
            raise DataError(f"stages.{self.name}.domains={domains} leaves no training prompt; there are {known}")
        return chosen

    def _settings(self, context: RunContext) -> LoopSettings:
        cfg, own = context.cfg, OmegaConf.to_container(OmegaConf.structured(self.config))
        shared = ("prompts_per_step", "group_size", "minibatches", "epochs", "mask_truncated", "staleness", "steps")
        sampling = ("dynamic_sampling", "sampling_rounds")
        return LoopSettings(
            seed=cfg.seed,
            sampling=context.sampling,
            critic_warmup=cfg.critic.warmup_steps,
            missing_limits=context.missing_limits,
            stall_s=cfg.run.stall_s,
            **{name: own[name] for name in (*shared, *sampling)},  # type: ignore[index,call-overload,arg-type]
        )

    async def _resume(self, context: RunContext, loop: Loop, checkpoints: Checkpoints) -> int:
        found = checkpoints.newest()
        start = found.step if found else 0
        context.begin(self.name, self.config.steps, start)
        if found:
            loop.load_state_dict(found.state["loop"])
            loop.feed.restore(found.folder, loop.version)
            await loop.parts.learner.restore(str(found.folder / "learner"))
            if loop.parts.critic is not None:
                await loop.parts.critic.restore(str(found.folder / "critic"))
            context.recorder.event("resumed", stage=self.name, checkpoint=str(found.folder))
        return start

    async def _save(self, loop: Loop, checkpoints: Checkpoints, step: int) -> None:
        async def write(folder: Path) -> None:
            jobs = [loop.parts.learner.save(str(folder / "learner"))]
            if loop.parts.critic is not None:
                jobs.append(loop.parts.critic.save(str(folder / "critic")))
            await asyncio.gather(*jobs)
            loop.feed.save(folder)

        await checkpoints.save(step, {"loop": loop.state_dict()}, write)


async def _nothing() -> None:
    return None
