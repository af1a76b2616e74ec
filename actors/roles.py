"""The actors of a run by role: each started when it is first asked for, and ended with the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from omegaconf import OmegaConf

from raylign.actors.engines import Engines
from raylign.actors.environments.actor import EnvironmentActors, environment_spec
from raylign.actors.frozen_models import FrozenModels
from raylign.actors.judge.group import JudgeGroup
from raylign.actors.learner.group import LearnerGroup, LearnerSpec
from raylign.actors.remote import in_order
from raylign.actors.reward.pool import GRADERS
from raylign.actors.reward.pools import RewardPools
from raylign.actors.rollout.pool import VllmRolloutPool
from raylign.actors.watching import Starting, unseen
from raylign.chat.template import ChatTemplate
from raylign.config.resolve import Run
from raylign.config.schema import LearnerConfig, LoraConfig, OptimConfig
from raylign.contracts import EnvironmentSpec
from raylign.errors import LearnerError
from raylign.placement import Placement
from raylign.records import Prompt

Options = Callable[[int], dict[str, Any]]


class Told(Protocol):
    """Who is notified of what happens to actors."""

    def __call__(self, name: str, message: str = "", **facts: Any) -> None:
        """Record an event; a message is shown as well."""


class Roles:
    """All actors of one run. start_model: the run's; model_of: the folder that a path of the configuration means."""

    def __init__(
        self,
        run: Run,
        placement: Placement,
        *,
        log_dir: Path,
        template: ChatTemplate,
        start_model: str,
        model_of: Callable[[str], str],
        told: Told,
        starting: Starting = unseen,
    ) -> None:
        self.starting = starting
        self.placement, self.log_dir, self.told = placement, log_dir, told
        self._run = run
        self.shared = placement.plan.shared  # whether roles share devices, and so start one after the other
        publishes, trust = any(stage.cls.publishes for stage in run.stages), run.config.model.trust_remote_code
        self.engines = Engines(self._rollout_pool, lambda: self._learners.get("learner") if publishes else None, trust)
        self._start_model, self._model_of = start_model, model_of
        self._environments: dict[str, EnvironmentActors] = {}  # by stage, the run's under no name
        self.reward_pools: RewardPools | None = None  # those that were started
        self.grader_pools: RewardPools | None = None
        self._judges: dict[str, JudgeGroup] = {}
        self._learners: dict[str, LearnerGroup] = {}
        self.frozen = FrozenModels(
            run,
            template,
            model_of=model_of,
            options=self.options,
            log_dir=log_dir,
            replaced=self._replaced,
            starting=starting,
        )
        self._locks = {name: asyncio.Lock() for name in ("rewards", "graders", "judges")}

    @property
    def run(self) -> Run:
        """The run, with the paths of the artifacts that there are."""
        return self._run

    @run.setter
    def run(self, run: Run) -> None:
        self._run = self.frozen.run = run

    @property
    def scoring_pools(self) -> tuple[RewardPools | None, RewardPools | None]:
        """Of rewards and of graders, as far as they were started."""
        return self.reward_pools, self.grader_pools

    def options(self, role: str) -> Options:
        """Ray options of the actors of a role, by index."""
        return partial(self.placement.options, role)

    async def _rollout_pool(self, model: str) -> VllmRolloutPool:
        """A new pool that serves a model; its actors are ended where they cannot all be started."""
        await self.judges()
        environment = await self.environment()
        cfg = self.run.config
        pool = VllmRolloutPool(
            cfg.rollout,
            cfg.model,
            model,
            log_dir=self.log_dir,
            environment=environment,
            options=self.options("rollout"),
            deadline_s=cfg.run.deadline_s,
            lora=[stage.lora for stage in self.run.stages if stage.lora is not None and stage.lora.sent],
        )
        if self.shared:
            pool.share_device(self.placement.plan.role("rollout").kv_bytes, self._make_room)
        try:
            with self.starting("rollout engine", lambda: pool.alive, cfg.rollout.workers):
                await pool.start()
        except BaseException:
            await pool.close()
            raise
        return pool

    async def environment(self, stage: str = "", node: Mapping[str, Any] | None = None) -> EnvironmentSpec | None:
        """Where episodes live, if there are any: the run's, or those of a stage with one (`node`) of its own.

        Actors that host them are started.
        """
        config = self.run.config.environment
        if not (node or config.fn):
            return None
        environment = environment_spec(config, stage, node)
        if environment.actors and stage not in self._environments:
            role = f"environment/{stage}" if stage else "environment"
            actors = EnvironmentActors(environment, self.log_dir, self.options(role))
            self._environments[stage] = actors
            with self.starting("environments"):
                await actors.start()
        return environment

    async def rewards(self, names: Collection[str], prompts: Sequence[Prompt]) -> RewardPools:
        """The pools of these rewards; each is proven on gold and wrong answers of these prompts when it is started."""
        await self.judges()
        async with self._locks["rewards"], self._beside_no_start():
            started = self.reward_pools.names if self.reward_pools else frozenset()
            known = {name: reward for name, reward in self.run.config.rewards.items() if name not in started}
            more = RewardPools(
                {name: reward for name, reward in known.items() if name in names},
                log_dir=self.log_dir,
                options=lambda name, index: self.placement.options(f"reward/{name}", index),
            )
            self.reward_pools = more if self.reward_pools is None else self.reward_pools.with_those_of(more)
            with self.starting("rewards") if more.names else nullcontext():
                await more.start()
                await more.validate(prompts)
            return self.reward_pools.only(names)

    async def graders(self, prompts: Sequence[Prompt]) -> RewardPools:
        """The pools of the audit's graders, started and proven as those of rewards are."""
        await self.judges()
        async with self._locks["graders"], self._beside_no_start():
            if self.grader_pools is None:
                pools = RewardPools(
                    self.run.config.audit.graders,
                    log_dir=self.log_dir,
                    options=lambda name, index: self.placement.options(f"audit/{name}", index),
                    kind=GRADERS,
                )
                with self.starting("graders"):
                    await pools.start()
                    self.grader_pools = pools
                    await pools.validate(prompts)
            return self.grader_pools

    def _beside_no_start(self) -> AbstractAsyncContextManager[Any]:
        """Where rewards share devices they start before or after an engine, which measures what is free there."""
        on_gpu = any(pool.gpus for pool in (*self.run.config.rewards.values(), *self.run.config.audit.graders.values()))
        return self.engines.lock if self.shared and on_gpu else nullcontext()

    async def judges(self) -> None:
        """Start the served chat models, once, before anybody who may ask them. Raises EngineDeadError, RunError."""
        async with self._locks["judges"]:
            judges = self.run.config.judges
            wanted = [name for name in judges if name not in self._judges]
            self._judges |= {name: self._judge(name) for name in wanted}
            with self.starting(f"judges {', '.join(wanted)}") if wanted else nullcontext():
                await in_order([self._judges[name].start for name in wanted], self.shared)

    def _judge(self, name: str) -> JudgeGroup:
        cfg = self.run.config
        judge = cfg.judges[name]
        group = JudgeGroup(
            name,
            judge,
            judge.path if judge.endpoint else self._model_of(judge.path or self._start_model),
            dtype=cfg.model.dtype,
            trust_remote_code=cfg.model.trust_remote_code,
            log_dir=self.log_dir,
            options=self.options(f"judge/{name}"),
            deadline_s=cfg.run.deadline_s,
        )
        group.scores_for(self._start_model)
        group.share_device(self.placement.plan.role(f"judge/{name}").kv_bytes)
        return group

    async def learner(
        self, model: str, optim: OptimConfig, total_steps: int, lora: LoraConfig, kind: str = "causal_lm"
    ) -> LearnerGroup:
        """The learner of the policy, or of a model of another kind, loaded from `model` with a new optimizer, of
        adapters alone where `lora` has a rank.
        """
        optim = replace(optim, lr=lora.lr or optim.lr) if lora.rank else optim
        spec = LearnerSpec.of(self.run.config, kind, model, self._ranks(optim), total_steps)
        return await self._learner("learner", replace(spec, lora=lora))

    async def critic(self, model: str, total_steps: int) -> LearnerGroup:
        """The value model, started from its own path or from `model`."""
        critic = self.run.config.critic
        config = self._ranks(critic.optim, critic.ranks)
        spec = LearnerSpec.of(self.run.config, "scalar_head", critic.path or model, config, total_steps)
        return await self._learner("critic", spec)

    def _ranks(self, optim: OptimConfig, ranks: int = 0) -> LearnerConfig:
        merged = OmegaConf.merge(OmegaConf.structured(self.run.config.learner), {"optim": OmegaConf.structured(optim)})
        config: LearnerConfig = OmegaConf.to_object(merged)  # type: ignore[assignment]
        return replace(config, ranks=ranks or config.ranks)

    async def _learner(self, role: str, spec: LearnerSpec) -> LearnerGroup:
        cfg, group = self.run.config, self._learners.get(role)
        self.engines.learner_loads()
        if group is None:
            group = LearnerGroup(
                role, spec.learner, log_dir=self.log_dir, options=self.options(role), collectives_s=cfg.run.deadline_s
            )
            self._learners[role] = group
            with self.starting(role):
                await group.start()
        with self.starting(f"model of the {role}"):
            report = await group.load(spec)
        if report.note:  # a model that is not computed as fast as others
            self.told("layout", f"{role}: {report.note}", role=role, note=report.note)
        return group

    def _replaced(self, name: str, cause: LearnerError) -> None:
        said = f"frozen model {name} died and is replaced: {cause}"
        self.told("frozen_model_restarted", said, frozen=name, cause=str(cause))

    async def _make_room(self) -> None:
        """Before an engine is rebuilt the others give back what they only keep; a dead one says so at its next call."""
        groups: list[Any] = [*self._learners.values(), *self.frozen.groups]
        await asyncio.gather(*(group.free_cache() for group in groups), return_exceptions=True)

    async def end_learners(self) -> None:
        """End policy and critic; the next call of `learner` or `critic` starts new ranks."""
        groups = list(self._learners.values())
        self._learners.clear()
        await asyncio.gather(*(group.close() for group in groups), return_exceptions=True)

    async def close(self) -> None:
        """End every actor that was started."""
        groups: list[Any] = [*self.frozen.groups, *self._learners.values(), *self._judges.values()]
        groups += [self.engines, *self._environments.values(), *filter(None, self.scoring_pools)]
        await asyncio.gather(*(group.close() for group in groups), return_exceptions=True)
