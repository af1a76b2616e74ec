"""The training loop: generate -> reward (streamed) -> shape -> select -> credit -> learn -> publish weights.

    source --tasks--> rollouts --trajectories--> rewards --groups--> shaper --scores--> selector --> credit
      (feed)             ^                                                                             |
                         +---------- weights, proven by a probe ---------- learner <-- rows, advantages+

Synchronous (``staleness=0``): every sample of step k is drawn from policy version k, so that a killed run repeats
itself exactly from its last checkpoint. With a staleness above 0 rollouts run ahead by at most so many versions while
the learner learns, and new weights reach them in flight (see `raylign.feed`); nothing else differs. The loop knows the
contracts only; which algorithm runs is a matter of the parts that it is given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from raylign.collect import Collected, refuse_missing, reward_metrics, row_places, rows_of
from raylign.columns import Columns
from raylign.contracts import (
    Credit,
    GroupSelector,
    Learner,
    PromptSource,
    RewardPools,
    RewardShaper,
    RolloutPool,
    Sampling,
    StreamScorer,
)
from raylign.errors import RewardError
from raylign.feed import Feed, FeedSettings
from raylign.objectives.selection import selection_metrics
from raylign.records import Group, Prompt

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """The numbers of the loop. One step = `prompts_per_step` groups of `group_size` samples."""

    seed: int
    prompts_per_step: int
    group_size: int
    sampling: Sampling
    minibatches: int = 1  # optimiser steps per epoch of a batch
    epochs: int = 1
    mask_truncated: bool = False
    dynamic_sampling: bool = False  # refill groups whose scores are all equal
    sampling_rounds: int = 4  # tries to fill a step; then it goes on with what it has
    critic_warmup: int = 0  # steps in which only the critic learns
    staleness: int = 0  # policy versions that rollouts may run ahead; 0: synchronous
    steps: int = 0  # of the whole stage, so that nothing runs ahead of its end; 0: unknown
    missing_limits: Mapping[str, float] = field(default_factory=dict)
    stall_s: float = 1800.0


@dataclass(slots=True, kw_only=True)
class Parts:
    """What one run of the loop is made of."""

    source: PromptSource
    rollouts: RolloutPool
    rewards: RewardPools
    shaper: RewardShaper
    credit: Credit
    learner: Learner
    objective: Mapping[str, Any]  # `_target_` node, built in the learner
    objective_needs: frozenset[str]
    selector: GroupSelector | None = None  # None: everything is learned from
    critic: Learner | None = None
    critic_objective: Mapping[str, Any] | None = None
    scorers: Mapping[str, StreamScorer] = field(default_factory=dict)  # stream name -> who fills it


@dataclass(slots=True, kw_only=True)
class StepResult:
    """What one step did."""

    groups: list[Group]
    batch: Columns | None  # None when no group was left to learn from
    metrics: dict[str, float]
    rows: list[tuple[int, int]] = field(default_factory=list)  # (group, trajectory) of each row of the batch


class Loop:
    """Runs steps over its parts; `version` counts published policies."""

    def __init__(
        self, parts: Parts, settings: LoopSettings, on_phase: Callable[[int, str], None] = lambda step, phase: None
    ) -> None:
        self.parts = parts
        self.settings = settings
        self.on_phase = on_phase  # told (step, phase) when a phase begins: rollout, reward, score, learn, publish
        self.version = 0
        self.feed = Feed(
            parts.source,
            parts.rollouts,
            parts.rewards,
            FeedSettings(
                seed=settings.seed,
                prompts_per_step=settings.prompts_per_step,
                group_size=settings.group_size,
                sampling=settings.sampling,
                staleness=settings.staleness,
                steps=settings.steps,
                stall_s=settings.stall_s,
            ),
        )
        self._busy = 0.0  # seconds that all engines have worked so far

    def state_dict(self) -> dict[str, Any]:
        """The controller's share of a checkpoint."""
        parts = self.parts
        return {
            "version": self.version,
            "source": parts.source.state_dict(),
            "shaper": parts.shaper.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo a restart."""
        self.version = state["version"]
        self.parts.source.load_state_dict(state["source"])
        self.parts.shaper.load_state_dict(state["shaper"])

    async def publish(self) -> dict[str, float]:
        """Put the learner's weights into every rollout engine and prove that they are live."""
        update = await self.parts.learner.publish(self.version)
        found = await self.parts.rollouts.publish(update)
        self.feed.published(self.version)
        return {f"publish/{name}": value for name, value in found.items()}

    async def step(self, step: int) -> StepResult:
        """One synchronous step. Step k samples with version k's weights and ends with version k + 1 published."""
        clock = _Clock()
        collected, metrics = await self._groups(step)
        clock.lap("generate")
        scored = self.parts.credit.reads_scores
        enough = min(2, self.settings.group_size) if scored else 0
        kept = [group for group in collected.groups if len(group.valid) >= enough]
        metrics |= {"groups/dropped": float(len(collected.groups) - len(kept))}
        if not kept:
            metrics |= self._observe(collected)
            return StepResult(groups=collected.groups, batch=None, metrics=metrics | clock.laps)
        self.on_phase(step, "score")
        batch, scores = rows_of(kept, self.settings.mask_truncated, unscored=not scored)
        batch, seconds = await self._annotate(batch, [group.prompt for group in kept])
        metrics |= seconds
        clock.lap("score")
        batch, found = self.parts.credit.assign(batch, scores)
        metrics |= found
        self.on_phase(step, "learn")
        metrics |= await self._learn(step, batch)
        clock.lap("learn")
        self.version += 1
        self.on_phase(step, "publish")
        metrics |= await self.publish()
        clock.lap("publish")
        metrics |= self._observe(collected) | self.feed.metrics() | _ages(batch, self.version - 1)
        metrics |= await self._idle(clock)
        metrics |= clock.laps | {
            "time/step": clock.total,
            "tokens/sampled": float(collected.tokens),
            "tokens/per_second": collected.tokens / max(clock.total, 1e-9),
        }
        return StepResult(groups=kept, batch=batch, metrics=metrics, rows=row_places(kept, unscored=not scored))

    async def _groups(self, step: int) -> tuple[Collected, dict[str, float]]:
        """Shaped and selected groups of one step; with dynamic sampling, only groups whose scores differ, refilled if
        need be before the selection.
        """
        settings, kept, seen, rounds = self.settings, [], [], 0
        while True:
            rounds += 1
            self.on_phase(step, "rollout")
            found = await self.feed.take(settings.prompts_per_step, lambda: self.on_phase(step, "reward"))
            found.groups = self.parts.shaper.shape(found.groups)
            seen.append(found)
            useful = [group for group in found.groups if not settings.dynamic_sampling or _differ(group)]
            kept += useful
            self.feed.dropped(len(found.groups) - len(useful))
            if len(kept) >= settings.prompts_per_step or not settings.dynamic_sampling:
                break
            if rounds >= settings.sampling_rounds:
                break
        everything = [group for found in seen for group in found.groups]
        self.feed.dropped(len(kept) - settings.prompts_per_step)  # a step is worth its prompts, filled or not
        refuse_missing(everything, settings.missing_limits)
        metrics = reward_metrics(everything) | {
            "groups/equal": float(np.mean([not _differ(group) for group in everything])),
            "groups/sampled": float(len(everything)),
            "groups/rounds": float(rounds),
            "groups/surplus": float(max(0, len(kept) - settings.prompts_per_step)),
            "groups/fill": min(1.0, len(kept) / settings.prompts_per_step),
            "time/reward_tail": sum(found.reward_tail_s for found in seen),
        }
        chosen, found_by_selector = self._selected(kept[: settings.prompts_per_step])
        metrics |= found_by_selector
        collected = Collected(
            groups=chosen,
            generate_s=sum(found.generate_s for found in seen),
            reward_tail_s=sum(found.reward_tail_s for found in seen),
            tokens=sum(found.tokens for found in seen),
            sampled=everything,
        )
        return collected, metrics

    def _selected(self, groups: list[Group]) -> tuple[list[Group], dict[str, float]]:
        """What the selector keeps; with dynamic sampling, without the groups that it has made equal."""
        if self.parts.selector is None:
            return groups, {}
        chosen = self.parts.selector.select(groups)
        metrics = selection_metrics(groups, chosen)
        return [group for group in chosen if not self.settings.dynamic_sampling or _differ(group)], metrics

    def _observe(self, collected: Collected) -> dict[str, float]:
        """Show the source every group that was sampled, before any was dropped; what it has to say about them."""
        source = self.parts.source
        source.observe(collected.sampled)
        return {f"source/{name}": value for name, value in source.metrics().items()}

    async def _idle(self, clock: _Clock) -> dict[str, float]:
        """Shares of the step in which engines and learner stood still, as far as they can tell."""
        worked = sum(clock.laps.get(f"time/{name}", 0.0) for name in ("score", "learn", "publish"))
        found = {"idle/learner": 1.0 - worked / max(clock.total, 1e-9)}
        busy, engines = await self.parts.rollouts.busy()
        if engines:
            share = (busy - self._busy) / max(clock.total * engines, 1e-9)
            self._busy = busy
            found["idle/rollout"] = 1.0 - min(1.0, share)
        return found

    async def _annotate(self, batch: Columns, prompts: Sequence[Prompt]) -> tuple[Columns, dict[str, float]]:
        """Add the streams that credit and objective need and only a model can give; seconds that each took."""
        parts = self.parts
        needs = parts.credit.needs | parts.objective_needs
        jobs: dict[str, Any] = {}
        seconds: dict[str, float] = {}
        for name in sorted(needs):
            if name == "old_logprob":
                jobs[name] = parts.learner.logprobs(batch)
            elif name == "value":
                jobs[name] = _required(parts.critic, "a critic").values(batch)
            elif name not in ("advantage", "return") and name not in batch:
                jobs[name] = _required(parts.scorers.get(name), f"a scorer for {name}").stream(batch, prompts)
        streams = await asyncio.gather(*(_timed(job, seconds, f"time/score/{name}") for name, job in jobs.items()))
        return batch.with_streams(**dict(zip(jobs, streams, strict=True))), seconds

    async def _learn(self, step: int, batch: Columns) -> dict[str, float]:
        settings, parts = self.settings, self.parts
        collected: list[dict[str, float]] = []
        for epoch in range(settings.epochs):
            for part in minibatches(batch, settings.minibatches, seed=(settings.seed, step, epoch)):
                jobs = []
                if step >= settings.critic_warmup:
                    jobs.append(parts.learner.update(part, parts.objective))
                if parts.critic is not None:
                    jobs.append(_prefixed("critic/", parts.critic.update(part, parts.critic_objective or {})))
                found: dict[str, float] = {}
                for metrics in await asyncio.gather(*jobs):
                    found |= metrics
                collected.append(found)
        names = {name for found in collected for name in found}
        return {name: _reduce(name, [found[name] for found in collected if name in found]) for name in sorted(names)}


def minibatches(batch: Columns, count: int, seed: Sequence[int]) -> list[Columns]:
    """Split by whole groups into `count` parts of near-equal group number, in an order drawn from the seed."""
    if count == 1:
        return [batch]
    order = np.random.default_rng(list(seed)).permutation(np.unique(batch.groups))
    parts = [np.flatnonzero(np.isin(batch.groups, part)) for part in np.array_split(order, count)]
    return [batch.select(rows) for rows in parts if len(rows)]


def _ages(batch: Columns, version: int) -> dict[str, float]:
    """Versions between the policy that sampled a token and the one that learns from it."""
    ages = version - np.asarray(batch["policy_version"])[np.asarray(batch["loss_mask"], bool)]
    if not ages.size or not ages.any():
        return {}
    return {"async/token_age": float(ages.mean()), "async/token_age_max": float(ages.max())}


def _differ(group: Group) -> bool:
    scores = [score for score in group.scores if score is not None]
    return len(set(scores)) > 1


def _required(part: Part | None, what: str) -> Part:
    if part is None:
        raise RewardError(f"the credit or the objective needs {what}, and the stage was given none")
    return part


async def _timed(call: Awaitable[Part], seconds: dict[str, float], name: str) -> Part:
    started = time.perf_counter()
    result = await call
    seconds[name] = time.perf_counter() - started
    return result


async def _prefixed(prefix: str, call: Any) -> dict[str, float]:
    return {f"{prefix}{name}": value for name, value in (await call).items()}


def _reduce(name: str, values: Sequence[float]) -> float:
    return float(max(values)) if "max/" in name else float(np.mean(values))


class _Clock:
    """Laps of one step in seconds, as ``time/<name>``."""

    def __init__(self) -> None:
        self.started = self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[f"time/{name}"] = now - self._last
        self._last = now

    @property
    def total(self) -> float:
        return self._last - self.started
