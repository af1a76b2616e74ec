"""Generate and reward: tasks in, scored groups out. A trajectory is rewarded while its neighbours still generate."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from raylign.columns import Columns
from raylign.contracts import RewardPools, RolloutPool, RolloutTask, Scored
from raylign.errors import EngineDeadError, RewardError
from raylign.records import Absent, Float32s, Group, Missing, Reward, Trajectory, Value, sample_from

DRAWN, NEIGHBOUR = "rollout", "neighbour"  # under these names a failed draw and the rest of its group are missing


@dataclass(slots=True)
class Collected:
    """Groups in the order of their tasks, and where the time went (seconds)."""

    groups: list[Group]
    generate_s: float
    reward_tail_s: float  # what rewarding added after the last token
    tokens: int
    missing: Counter[str] = field(default_factory=Counter)  # "<reward name>: <reason>" -> count
    sampled: list[Group] = field(default_factory=list)  # of a step: also those that dynamic sampling dropped


async def collect(
    tasks: Sequence[RolloutTask],
    rollouts: RolloutPool,
    rewards: RewardPools,
    stall_s: float,
    generated: Callable[[], None] = lambda: None,
) -> Collected:
    """Roll out all tasks and reward every trajectory. No task is lost and no draw counted twice.

    `generated` is called when the last trajectory has arrived and only rewards are outstanding.

    Raises EngineDeadError when nothing arrives for `stall_s` seconds.
    """
    started = time.perf_counter()
    arrived: list[dict[int, Trajectory]] = [{} for _ in tasks]
    jobs = _RewardJobs(rewards, tasks)
    try:
        async for scored in _with_deadline(rollouts.stream(tasks), stall_s):
            for item in scored:
                draws = arrived[item.task]
                if item.trajectory.sample_index in draws:
                    raise EngineDeadError(f"draw {item.trajectory.sample_index} of task {item.task} arrived twice")
                draws[item.trajectory.sample_index] = item.trajectory
                jobs.refuse(item) if item.error else jobs.one(item)
                if len(draws) == tasks[item.task].n:
                    jobs.whole(item.task, [draws[index] for index in sorted(draws)])
        last_token = time.perf_counter()
        generated()
        _nothing_lost(tasks, arrived)
        parts = await jobs.finish(arrived)
    except BaseException:
        jobs.cancel()
        raise
    groups = [
        Group(
            prompt=task.prompt,
            trajectories=tuple(replace(draws[i], rewards=parts[number][i]) for i in sorted(draws)),
        )
        for number, (task, draws) in enumerate(zip(tasks, arrived, strict=True))
    ]
    return Collected(
        groups=groups,
        generate_s=last_token - started,
        reward_tail_s=time.perf_counter() - last_token,
        tokens=sum(t.response_length for group in groups for t in group.trajectories),
        missing=_missing(groups),
    )


def refuse_missing(groups: Sequence[Group], limits: Mapping[str, float]) -> None:
    """Raise RewardError when a reward is missing, or a draw has failed (the name `DRAWN`), more often than allowed."""
    trajectories = [t for group in groups for t in group.trajectories]
    for name, limit in limits.items():
        asked = _asked(trajectories, name)
        reasons = [reward.reason for reward in asked if isinstance(reward, Missing)]
        if reasons and len(reasons) > limit * len(asked):
            common, count = Counter(reasons).most_common(1)[0]
            what = "the draw failed" if name == DRAWN else f"reward {name} is missing"
            fix = "rollout.max_missing" if name == DRAWN else f"mend the reward, or raise rewards.{name}.max_missing"
            fix = f"mend the cause, or raise {fix}" if name == DRAWN else fix
            raise RewardError(
                f"{what} for {len(reasons)} of {len(asked)} trajectories (limit {limit:.0%}); "
                f"{count} times: {common}; fix: {fix}"
            )


def most_common_reason(groups: Sequence[Group]) -> str:
    """``NAME: REASON (N times)`` of what is missing most often; a neighbour's failed draw is no reason of its own."""
    counted = _missing(groups)
    own = Counter({text: count for text, count in counted.items() if not text.startswith(f"{NEIGHBOUR}: ")})
    if not counted:
        return "nothing is missing"
    text, count = (own or counted).most_common(1)[0]
    return f"{text} ({count} times)"


def row_places(groups: Sequence[Group], unscored: bool = False) -> list[tuple[int, int]]:
    """(group, trajectory) of each row of `rows_of`."""
    return [
        (number, index)
        for number, group in enumerate(groups)
        for index in (range(len(group.trajectories)) if unscored else group.valid)
    ]


def rows_of(groups: Sequence[Group], mask_truncated: bool = False, unscored: bool = False) -> tuple[Columns, Float32s]:
    """The learner's rows of all trajectories that have a score, in order, and their scores [B].

    mask_truncated: rows cut by a length limit get weight 0 (they stay in their group's statistics).
    unscored: rows of trajectories without a score too, with score NaN.
    """
    samples, scores = [], []
    places = row_places(groups, unscored)
    by_turn = any(
        turn.reward is not None or len(t.turns) > 1 for g in groups for t in g.trajectories for turn in t.turns
    )
    fresh = any(turn.fresh for group in groups for t in group.trajectories for turn in t.turns)
    for number, index in places:
        group = groups[number]
        trajectory = group.trajectories[index]
        turn_scores = group.turn_scores[index] if group.turn_scores else None
        finer = by_turn or bool(group.turn_scores)
        sample = sample_from(trajectory, group.prompt, number, turn_scores, finer, fresh=fresh)
        if mask_truncated and trajectory.truncated:
            sample = replace(sample, weight=np.zeros_like(sample.weight))
        samples.append(sample)
        score = group.scores[index]
        scores.append(float("nan") if score is None else score)
    return Columns.from_samples(samples), np.array(scores, np.float32)


def reward_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Means per reward over what was measured, the share that was missing, and lengths.

    Metrics that shapers and strategies left on groups and trajectories are averaged over those that have them. Rewards
    and mean lengths are also given by domain, ``reward/<name>/<domain>``, where the prompts have several.
    """
    trajectories = [t for group in groups for t in group.trajectories]
    metrics = _means([group.metrics for group in groups]) | _means([t.metrics for t in trajectories])
    domains = sorted({group.prompt.domain for group in groups})
    if len(domains) > 1:
        for domain in domains:
            of_domain = [group for group in groups if group.prompt.domain == domain]
            found = _rewards_of(of_domain) | _mean_length(of_domain)
            metrics |= {f"{name}/{domain}": value for name, value in found.items()}
    for name in sorted({DRAWN, *(name for t in trajectories for name in t.rewards)}):
        rewards = _asked(trajectories, name)
        if rewards:
            metrics[f"missing/{name}"] = float(np.mean([isinstance(reward, Missing) for reward in rewards]))
    metrics |= _rewards_of(groups) | _mean_length(groups)
    judged = [score for group in groups for score in group.scores]
    scores = [score for score in judged if score is not None]
    if judged:
        metrics["missing/share"] = 1.0 - len(scores) / len(judged)
    if scores:
        metrics |= {"reward/mean": float(np.mean(scores)), "reward/std": float(np.std(scores))}
    lengths = [t.response_length for t in trajectories]
    if lengths:
        metrics |= {
            "length/max": float(np.max(lengths)),
            "length/truncated": float(np.mean([t.truncated for t in trajectories])),
            "length/empty": float(np.mean([not t.text.strip() for t in trajectories])),
        }
    return metrics


def _asked(trajectories: Sequence[Trajectory], name: str) -> list[Reward | None]:
    """A reward of those trajectories to which it applies; under the names of failed draws, of all trajectories."""
    rewards = [t.rewards.get(name) for t in trajectories if name in (DRAWN, NEIGHBOUR) or name in t.rewards]
    return [reward for reward in rewards if not isinstance(reward, Absent)]


def _mean_length(groups: Sequence[Group]) -> dict[str, float]:
    lengths = [t.response_length for group in groups for t in group.trajectories]
    return {"length/mean": float(np.mean(lengths))} if lengths else {}


def _rewards_of(groups: Sequence[Group]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for trajectory in (t for group in groups for t in group.trajectories):
        for name, reward in trajectory.rewards.items():
            if isinstance(reward, Value):
                found.setdefault(f"reward/{name}", []).append(reward.score)
    return {name: float(np.mean(values)) for name, values in sorted(found.items())}


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in sorted(found.items())}


async def _with_deadline(stream: AsyncIterator[list[Scored]], stall_s: float) -> AsyncIterator[list[Scored]]:
    iterator = aiter(stream)
    while True:
        try:
            yield await asyncio.wait_for(anext(iterator), stall_s)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise EngineDeadError(
                f"no trajectory finished for {stall_s:.0f} s (run.stall_s); see the rollout logs of the run folder"
            ) from None


class _RewardJobs:
    """Reward calls in flight: one a trajectory, and one a group once it is complete."""

    def __init__(self, rewards: RewardPools, tasks: Sequence[RolloutTask]) -> None:
        self._rewards, self._tasks = rewards, tasks
        self._single: dict[tuple[int, int], asyncio.Future[Mapping[str, Reward]]] = {}
        self._group: dict[int, asyncio.Future[list[Mapping[str, Reward]]]] = {}
        self._refused: set[int] = set()

    def one(self, item: Scored) -> None:
        call = self._rewards.score(self._tasks[item.task].prompt, item.trajectory)
        self._single[item.task, item.trajectory.sample_index] = asyncio.ensure_future(call)

    def refuse(self, item: Scored) -> None:
        """The engine would not sample this draw: no text to judge, so its reward is missing, not 0."""
        self._refused.add(item.task)
        self._single[item.task, item.trajectory.sample_index] = _done({DRAWN: Missing(reason=item.error)})

    def whole(self, task: int, trajectories: Sequence[Trajectory]) -> None:
        if task in self._refused:
            refusal = {NEIGHBOUR: Missing(reason="a sample of the group could not be drawn")}
            self._group[task] = _done([refusal] * len(trajectories))
            return
        call = self._rewards.score_group(self._tasks[task].prompt, trajectories)
        self._group[task] = asyncio.ensure_future(call)

    async def finish(self, arrived: Sequence[Mapping[int, Trajectory]]) -> list[dict[int, dict[str, Reward]]]:
        parts: list[dict[int, dict[str, Reward]]] = [{index: {} for index in draws} for draws in arrived]
        for (task, index), single in self._single.items():
            parts[task][index] |= await single
        for task, group in self._group.items():
            for index, found in zip(sorted(arrived[task]), await group, strict=True):
                parts[task][index] |= found
        return parts

    def cancel(self) -> None:
        jobs: list[asyncio.Future[Any]] = [*self._single.values(), *self._group.values()]
        for job in jobs:
            job.cancel()


def _done(result: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(result)
    return future


def _nothing_lost(tasks: Sequence[RolloutTask], arrived: Sequence[Mapping[int, Trajectory]]) -> None:
    for task, draws in zip(tasks, arrived, strict=True):
        if len(draws) != task.n:
            raise EngineDeadError(f"prompt {task.prompt.key}: {len(draws)} of {task.n} draws arrived")


def _missing(groups: Sequence[Group]) -> Counter[str]:
    return Counter(
        f"{name}: {reward.reason}"
        for group in groups
        for trajectory in group.trajectories
        for name, reward in trajectory.rewards.items()
        if isinstance(reward, Missing)
    )
