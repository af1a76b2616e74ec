"""Generate and reward: tasks in, scored groups out. A trajectory is rewarded while its neighbours still generate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raylign.contracts import RewardPools, RolloutPool, RolloutTask, Scored
from raylign.errors import EngineDeadError
from raylign.loop.reward_metrics import NEIGHBOUR, SAMPLED
from raylign.payloads import referred
from raylign.records import Group, Missing, Reward, Trajectory
from raylign.tasks import owned


@dataclass(slots=True)
class Collected:
    """Groups in the order of their tasks, and where the time went (seconds)."""

    groups: list[Group]
    generate_s: float
    reward_tail_s: float  # what rewarding added after the last token
    tokens: int


async def collect(
    tasks: Sequence[RolloutTask],
    rollouts: RolloutPool,
    rewards: RewardPools,
    stall_s: float,
    generated: Callable[[], None] = lambda: None,
) -> Collected:
    """Roll out all tasks and reward every trajectory. No task is lost and no sample counted twice.

    Rewards see payloads with their content; the groups that are returned refer to them, and this process owns them.
    `generated` is called when the last trajectory has arrived and only rewards are outstanding.

    Raises EngineDeadError when nothing arrives for `stall_s` seconds.
    """
    started = time.perf_counter()
    arrived: list[dict[int, Trajectory]] = [{} for _ in tasks]
    async with owned() as owner:
        jobs = _RewardJobs(rewards, tasks, owner)
        async for scored in _with_deadline(rollouts.stream(tasks), stall_s):
            for item in scored:
                draws = arrived[item.task]
                if item.trajectory.sample_index in draws:
                    raise EngineDeadError(f"sample {item.trajectory.sample_index} of task {item.task} arrived twice")
                draws[item.trajectory.sample_index] = item.trajectory
                jobs.refuse(item) if item.error else jobs.score(item)
                if len(draws) == tasks[item.task].n:
                    jobs.whole(item.task, [draws[index] for index in sorted(draws)])
        last_token = time.perf_counter()
        generated()
        _nothing_lost(tasks, arrived)
        parts = await jobs.finish(arrived)
    if any(trajectory.payload for draws in arrived for trajectory in draws.values()):
        arrived = await asyncio.to_thread(_referred, arrived)
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
    )


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

    def __init__(self, rewards: RewardPools, tasks: Sequence[RolloutTask], owner: asyncio.TaskGroup) -> None:
        self._rewards, self._tasks, self._owner = rewards, tasks, owner
        self._single: dict[tuple[int, int], asyncio.Future[Mapping[str, Reward]]] = {}
        self._group: dict[int, asyncio.Future[list[Mapping[str, Reward]]]] = {}
        self._refused: set[int] = set()

    def score(self, item: Scored) -> None:
        call = self._rewards.score(self._tasks[item.task].prompt, item.trajectory)
        self._single[item.task, item.trajectory.sample_index] = self._owner.create_task(call)

    def refuse(self, item: Scored) -> None:
        """The engine refused this sample: no text to judge, so its reward is missing, not 0."""
        self._refused.add(item.task)
        self._single[item.task, item.trajectory.sample_index] = _done({SAMPLED: Missing(reason=item.error)})

    def whole(self, task: int, trajectories: Sequence[Trajectory]) -> None:
        if task in self._refused:
            refusal = {NEIGHBOUR: Missing(reason="a sample of the group could not be drawn")}
            self._group[task] = _done([refusal] * len(trajectories))
            return
        call = self._rewards.score_group(self._tasks[task].prompt, trajectories)
        self._group[task] = self._owner.create_task(call)

    async def finish(self, arrived: Sequence[Mapping[int, Trajectory]]) -> list[dict[int, dict[str, Reward]]]:
        rewards: list[dict[int, dict[str, Reward]]] = [{index: {} for index in draws} for draws in arrived]
        for (task, index), single in self._single.items():
            rewards[task][index] |= await single
        for task, group in self._group.items():
            for index, of_sample in zip(sorted(arrived[task]), await group, strict=True):
                rewards[task][index] |= of_sample
        return rewards


def _referred(arrived: Sequence[Mapping[int, Trajectory]]) -> list[dict[int, Trajectory]]:
    return [{index: referred(trajectory) for index, trajectory in draws.items()} for draws in arrived]


def _done(result: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(result)
    return future


def _nothing_lost(tasks: Sequence[RolloutTask], arrived: Sequence[Mapping[int, Trajectory]]) -> None:
    for task, draws in zip(tasks, arrived, strict=True):
        if len(draws) != task.n:
            raise EngineDeadError(f"prompt {task.prompt.key}: {len(draws)} of {task.n} draws arrived")
