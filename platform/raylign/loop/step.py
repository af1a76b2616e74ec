"""The training loop: generate -> reward (streamed) -> score -> select -> advantage -> learn -> publish weights.

    source --tasks--> rollouts --trajectories--> rewards --groups--> shaper --scores--> selector --> advantage
     (buffer)            ^                                                                             |
                         +---------- weights, proven by a probe ---------- learner <-- rows, advantages+

Synchronous (``staleness=0``): every sample of step k is drawn from policy version k, so that a killed run repeats
itself exactly from its last checkpoint. With a staleness above 0 rollouts run ahead by at most so many versions while
the learner learns, and new weights reach them in flight (see `raylign.loop.rollout_buffer`); nothing else differs. The
loop knows the contracts only; which algorithm runs is a matter of the parts that it is given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from raylign.batch import Batch
from raylign.contracts import (
    Advantage,
    FrozenStream,
    GroupSelector,
    Learner,
    LearnerUpdate,
    Place,
    PromptSource,
    RewardPools,
    RewardShaper,
    RolloutPool,
    RowMaker,
    StatefulPart,
)
from raylign.errors import RewardError
from raylign.loop.clock import BusyShare, StepClock
from raylign.loop.part_state import restore_parts, save_parts
from raylign.loop.rollout_buffer import RolloutBuffer
from raylign.loop.rows import PerTrajectory, without_truncated
from raylign.loop.sampling import SampledStep, StepSampler, teaches
from raylign.loop.settings import LoopSettings
from raylign.records import Float32s, Group, Prompt
from raylign.tasks import together

if TYPE_CHECKING:
    from raylign.audit.auditor import Auditor
    from raylign.audit.graded import Audited

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Parts:
    """What one run of the loop is made of."""

    source: PromptSource
    rollouts: RolloutPool
    rewards: RewardPools
    shaper: RewardShaper
    selector: GroupSelector
    advantage: Advantage
    learner: Learner
    objective: Mapping[str, Any]  # `_target_` node, built in the learner
    objective_needs: frozenset[str]
    rows: RowMaker = field(default_factory=lambda: PerTrajectory(PerTrajectory.Config()))
    critic: Learner | None = None
    critic_objective: Mapping[str, Any] | None = None
    frozen: Mapping[str, FrozenStream] = field(default_factory=dict)  # stream name -> who fills it
    auditor: Auditor | None = None  # grades some samples beside the step, which knows nothing of it


@dataclass(slots=True, kw_only=True)
class StepResult:
    """What one step did."""

    groups: list[Group]
    batch: Batch | None  # None when no group was left to learn from
    metrics: dict[str, float]
    places: Sequence[Place] = ()  # where each row of the batch comes from
    audited: Audited | None = None


class Loop:
    """Runs steps over its parts. `version` counts published policies, `taught` the steps whose scores said what to
    change.
    """

    def __init__(
        self, parts: Parts, settings: LoopSettings, on_phase: Callable[[int, str], None] = lambda step, phase: None
    ) -> None:
        self.parts = parts
        self.settings = settings
        self.on_phase = on_phase  # told (step, phase) when a phase begins: rollout, reward, score, learn, publish
        self.version = self.taught = 0
        self._buffer = RolloutBuffer(parts.source, parts.rollouts, parts.rewards, settings)
        self._sampler = StepSampler(self._buffer, parts.shaper, parts.selector, settings, parts.advantage)
        self._engines = BusyShare()

    def state_dict(self) -> dict[str, Any]:
        """The controller's share of a checkpoint."""
        state: dict[str, Any] = {"version": self.version, "taught": self.taught}
        if self.parts.auditor is not None:
            state["audit"] = self.parts.auditor.state_dict()
        return {**state, **{name: part.state_dict() for name, part in self._stateful().items()}}

    async def save(self, folder: Path) -> None:
        """Write what models, rollouts and the parts' large states have come to; the rest is `state_dict`."""
        jobs = [self.parts.learner.save(str(folder / "learner"))]
        if self.parts.critic is not None:
            jobs.append(self.parts.critic.save(str(folder / "critic")))
        await together(*jobs)
        await asyncio.to_thread(save_parts, folder, self._stateful())
        await self._buffer.save(folder)

    async def restore(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Go on from what `save` and `state_dict` gave."""
        self.version, self.taught = state["version"], state["taught"]
        if self.parts.auditor is not None and "audit" in state:  # one that was added since begins here
            self.parts.auditor.load_state_dict(state["audit"])
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])
        await asyncio.to_thread(restore_parts, folder, self._stateful())
        await asyncio.to_thread(self._buffer.restore, folder, self.version)
        await self.parts.learner.restore(str(folder / "learner"))
        if self.parts.critic is not None:
            await self.parts.critic.restore(str(folder / "critic"))

    def _stateful(self) -> dict[str, StatefulPart]:
        return {"source": self.parts.source, "shaper": self.parts.shaper}

    def evaluated(self, metrics: Mapping[str, float]) -> None:
        """Tell the source what a held-out evaluation of the present policy came to."""
        self.parts.source.evaluated(metrics)

    async def close(self) -> None:
        """Cancel what is in flight."""
        await self._buffer.close()

    async def publish(self) -> dict[str, float]:
        """Put the learner's weights into every rollout engine and prove that they are live."""
        update = await self.parts.learner.publish(self.version)
        metrics = await self.parts.rollouts.publish(update)
        self._buffer.published(self.version)
        return {f"publish/{name}": value for name, value in metrics.items()}

    async def step(self, step: int) -> StepResult:
        """One synchronous step. Step k samples with version k's weights and ends with version k + 1 published."""
        clock = StepClock()
        sampled = await self._sampler.sample(lambda phase: self.on_phase(step, phase))
        clock.lap("generate")
        learning, auditor = self._learned(step, sampled, clock), self.parts.auditor
        return await (auditor.beside(step + 1, sampled.sampled, learning) if auditor else learning)

    async def _learned(self, step: int, sampled: SampledStep, clock: StepClock) -> StepResult:
        """What the step learns from its groups, to the published weights."""
        scored = self.parts.advantage.reads_scores
        enough = min(2, self.settings.step.group_size) if scored else 0
        usable = [group for group in sampled.groups if len(group.valid) >= enough]
        metrics = sampled.metrics | {"groups/dropped": float(len(sampled.groups) - len(usable))}
        if not scored:
            metrics.pop("groups/equal", None)  # nobody compares scores that nobody reads
        if not usable:
            metrics |= self._observe(sampled)
            return StepResult(groups=sampled.groups, batch=None, metrics=metrics | clock.laps)
        self.on_phase(step, "score")
        rows = self.parts.rows.rows(usable, unscored=not scored)
        if self.settings.step.mask_truncated:
            rows = without_truncated(rows, usable)
        batch, seconds = await self._annotate(rows.batch, [group.prompt for group in usable])
        metrics |= seconds
        clock.lap("score")
        batch, of_advantage = self.parts.advantage.assign(batch, rows.scores)
        metrics |= of_advantage
        self.taught += teaches(batch, usable, self.parts.advantage)
        self.on_phase(step, "learn")
        batch, learned = await self._learn(step, batch)
        metrics |= learned
        clock.lap("learn")
        self.version += 1
        self.on_phase(step, "publish")
        metrics |= await self.publish()
        clock.lap("publish")
        metrics |= self._observe(sampled) | self._buffer.metrics() | _ages(batch, self.version - 1)
        metrics |= await self._idle(clock)
        metrics |= clock.laps | {
            "time/step": clock.total,
            "tokens/sampled": float(sampled.tokens),
            "tokens/per_second": sampled.tokens / max(clock.total, 1e-9),
        }
        return StepResult(groups=usable, batch=batch, metrics=metrics, places=rows.places)

    def _observe(self, sampled: SampledStep) -> dict[str, float]:
        """Show the source every group that was sampled, before any was dropped; what it has to say about them."""
        source = self.parts.source
        source.observe(sampled.sampled)
        return {f"source/{name}": value for name, value in source.metrics().items()}

    async def _idle(self, clock: StepClock) -> dict[str, float]:
        """Shares of the step in which engines and learner stood still, as far as they can tell."""
        worked = sum(clock.laps.get(f"time/{name}", 0.0) for name in ("score", "learn", "publish"))
        shares = {"idle/learner": 1.0 - worked / max(clock.total, 1e-9)}
        busy, engines = await self.parts.rollouts.busy()
        if engines:
            shares["idle/rollout"] = self._engines.idle(busy, engines, clock.total)
        return shares

    async def _annotate(self, batch: Batch, prompts: Sequence[Prompt]) -> tuple[Batch, dict[str, float]]:
        """Add the streams that advantage and objective need and only a model can give; seconds that each took."""
        parts = self.parts
        needs = {name for name in parts.advantage.needs | parts.objective_needs if name not in batch}
        needs -= {"advantage", "return"}
        able: list[tuple[Learner, list[str]]] = []
        for learner in (parts.learner, parts.critic):
            if learner is not None and (names := sorted(needs & learner.fills)):
                able.append((learner, names))
                needs -= set(names)
        if lacking := sorted(needs - set(parts.frozen)):
            raise RewardError(
                f"the advantage or the objective needs {', '.join(map(_filler, lacking))}, and there is none"
            )
        seconds: dict[str, float] = {}
        jobs: dict[str, Coroutine[Any, Any, Mapping[str, Float32s]]]
        jobs = {"+".join(names): learner.streams(batch, names) for learner, names in able}
        jobs |= {name: _scored(name, parts.frozen[name], batch, prompts) for name in sorted(needs)}
        streams = await together(*(_timed(job, seconds, f"time/score/{name}") for name, job in jobs.items()))
        return batch.with_streams(**{name: stream for part in streams for name, stream in part.items()}), seconds

    async def _learn(self, step: int, batch: Batch) -> tuple[Batch, dict[str, float]]:
        """All updates of a step: their metrics, and where one update saw the whole batch, the batch with the log-probs
        that the learner had before it: beside the sampler's they are the gap of every token.
        """
        settings, parts = self.settings, self.parts
        updates: list[dict[str, float]] = []
        for epoch in range(settings.step.epochs):
            for minibatch in minibatches(batch, settings.step.minibatches, seed=(settings.seed, step, epoch)):
                jobs: dict[str, Coroutine[Any, Any, LearnerUpdate]] = {}
                if step >= settings.critic_warmup:
                    jobs[""] = parts.learner.update(minibatch, parts.objective)
                if parts.critic is not None:
                    jobs["critic/"] = parts.critic.update(minibatch, parts.critic_objective or {})
                done = dict(zip(jobs, await together(*jobs.values()), strict=True))
                updates.append(
                    {f"{of}{name}": value for of, update in done.items() for name, value in update.metrics.items()}
                )
                policy = done.get("")
                if policy and policy.logprobs is not None and settings.step.updates == 1:
                    batch = batch.with_streams(learner_logprob=policy.logprobs)
        names = sorted({name for metrics in updates for name in metrics})
        return batch, {name: _reduce(name, [metrics[name] for metrics in updates if name in metrics]) for name in names}


def minibatches(batch: Batch, count: int, seed: Sequence[int]) -> list[Batch]:
    """Split by whole groups into `count` parts of near-equal group number, in an order drawn from the seed."""
    if count == 1:
        return [batch]
    order = np.random.default_rng(list(seed)).permutation(np.unique(batch.groups))
    shares = [np.flatnonzero(np.isin(batch.groups, groups)) for groups in np.array_split(order, count)]
    return [batch.select(rows) for rows in shares if len(rows)]


def _ages(batch: Batch, version: int) -> dict[str, float]:
    """Versions between the policy that sampled a token and the one that learns from it."""
    ages = version - np.asarray(batch["policy_version"])[np.asarray(batch["loss_mask"], bool)]
    if not ages.size or not ages.any():
        return {}
    return {"async/token_age": float(ages.mean()), "async/token_age_max": float(ages.max())}


def _filler(stream: str) -> str:
    return "a critic" if stream == "value" else f"a learner or a frozen model that fills {stream}"


async def _scored(name: str, model: FrozenStream, batch: Batch, prompts: Sequence[Prompt]) -> Mapping[str, Float32s]:
    return {name: await model.stream(batch, prompts)}


async def _timed(call: Awaitable[T], seconds: dict[str, float], name: str) -> T:
    started = time.perf_counter()
    result = await call
    seconds[name] = time.perf_counter() - started
    return result


def _reduce(name: str, values: Sequence[float]) -> float:
    return float(max(values)) if "max/" in name else float(np.mean(values))
