"""Nothing stands in the way of the driver's event loop, and nothing that runs on it is left without an owner."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign import testing
from raylign.checkpoint import Checkpoints
from raylign.config.schema import TelemetryConfig
from raylign.contracts import RolloutTask, Sampling, Scored
from raylign.data.source import DatasetSource
from raylign.errors import RewardError
from raylign.loop.collect import collect
from raylign.loop.rollout_buffer import FILE, RolloutBuffer
from raylign.loop.settings import LoopSettings, StepSettings
from raylign.loop_lag import LoopLag
from raylign.records import Group, Prompt, Trajectory, Value
from raylign.tasks import owned, together
from raylign.telemetry.recorder import Recorder

MEGABYTE = 1 << 20


def trajectory(key: str) -> Trajectory:
    return testing.trajectory("ab", prompt_key=key)


@contextmanager
def turns_of_the_loop() -> Iterator[list[float]]:
    """Moments at which the loop was free."""
    moments: list[float] = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.002)
            moments.append(time.perf_counter())

    task = asyncio.create_task(tick())
    try:
        yield moments
    finally:
        task.cancel()


async def test_what_blocks_the_loop_is_seen_once() -> None:
    async with LoopLag() as lag:
        await asyncio.sleep(0.05)
        lag.take()
        time.sleep(0.3)
        assert 0.25 < lag.take() < 5
        lag.take()
        await asyncio.sleep(0.05)
        time.sleep(0.3)
        await asyncio.sleep(0.05)
        assert lag.take() > 0.25, "also what is long over"


async def test_a_checkpoint_of_200_mb_leaves_the_loop_free(tmp_path: Path) -> None:
    written: list[float] = []

    async def write(folder: Path) -> None:
        with (folder / "weights.bin").open("wb") as stream:
            stream.truncate(200 * MEGABYTE)
        written.append(time.perf_counter())

    with turns_of_the_loop() as moments:
        async with LoopLag() as lag:
            await Checkpoints(tmp_path, 1).save(1, {}, write)
            longest = lag.take()
    assert sum(moment > written[0] for moment in moments) >= 5, "checksum, fsync and rename stood in the way"
    assert longest < 0.5
    assert (tmp_path / "step_000001/manifest.json").exists()


class Slow:
    """An answer that says in which thread it was written down."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def __str__(self) -> str:
        self.threads.add(threading.get_ident())
        return "42"


async def test_rollouts_are_written_in_a_thread_and_a_full_disk_is_told(tmp_path: Path) -> None:
    recorder, answer = Recorder(tmp_path, TelemetryConfig()), Slow()
    prompt = Prompt(id="p", messages=(), token_ids=np.zeros(1, np.int32), answer=answer)
    group = Group(prompt=prompt, trajectories=(trajectory(prompt.key),))
    path = recorder.rollouts(1, [group])
    await recorder.flushed()
    assert path.exists() and answer.threads and threading.get_ident() not in answer.threads
    path.unlink()
    (tmp_path / "rollouts").rmdir()
    recorder.rollouts(2, [group])
    with pytest.raises(OSError, match="rollouts"):
        await recorder.flushed()
    recorder.rollouts(3, [group])
    recorder.close()
    assert b'"kind":"not_recorded"' in (tmp_path / "events.jsonl").read_bytes()


async def test_the_first_error_is_raised_by_itself_once_the_others_have_ended() -> None:
    ended = []

    async def waits(name: str) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    async def fails() -> None:
        await asyncio.sleep(0)
        raise RewardError("the cause")

    with pytest.raises(RewardError, match="the cause"):
        await together(waits("a"), fails(), waits("b"))
    assert sorted(ended) == ["a", "b"]
    with pytest.raises(KeyError):
        async with owned() as group:
            group.create_task(waits("c"))
            await asyncio.sleep(0)
            raise KeyError("the body's own")
    assert ended[-1] == "c"

    async def gives(value: int) -> int:
        return value

    assert await together(gives(2), gives(1)) == [2, 1]


class Parts:
    """Rollouts and rewards of which those named `bad` fail and all others hang; `running` are under way."""

    def __init__(self, bad: str) -> None:
        self.bad = bad
        self.running: list[str] = []

    async def stream(self, tasks: Any) -> Any:
        for number, task in enumerate(tasks):
            yield [Scored(task=number, trajectory=trajectory(task.prompt.key))]
        await self._hang("stream")

    async def score(self, prompt: Prompt, trajectory: Trajectory) -> dict[str, Value]:
        if prompt.id == self.bad:
            await asyncio.sleep(0.01)
            raise RewardError("the pool was closed")
        await self._hang(prompt.id)
        return {}

    async def score_group(self, prompt: Prompt, trajectories: Any) -> list[dict[str, Value]]:
        return [{} for _ in trajectories]

    async def _hang(self, name: str) -> None:
        self.running.append(name)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)  # it takes a while to end, and whoever cancels waits for that
            self.running.remove(name)


def prompts(count: int) -> list[Prompt]:
    return [Prompt(id=str(number), messages=(), token_ids=np.zeros(1, np.int32)) for number in range(count)]


async def test_a_reward_that_ends_the_step_leaves_no_call_behind() -> None:
    parts, sampling = Parts(bad="1"), Sampling(max_tokens=4)
    tasks = [RolloutTask(prompt=prompt, n=1, sampling=sampling, run_seed=1) for prompt in prompts(3)]
    with pytest.raises(RewardError, match="closed"):
        await collect(tasks, parts, parts, 5.0)  # type: ignore[arg-type]
    assert not parts.running


def ahead(parts: Parts) -> RolloutBuffer:
    source = DatasetSource(DatasetSource.Config(shuffle=False), prompts=prompts(9), seed=1)
    step = StepSettings(prompts_per_step=2, group_size=1, staleness=1)
    settings = LoopSettings(step=step, seed=1, sampling=Sampling(max_tokens=4))
    return RolloutBuffer(source, parts, parts, settings)  # type: ignore[arg-type]


async def test_what_became_stale_is_over_when_the_buffer_is_closed(tmp_path: Path) -> None:
    parts = Parts(bad="")
    buffer = ahead(parts)
    buffer.published(0)
    await asyncio.sleep(0.01)
    assert {"0", "1", "2", "3"} <= set(parts.running)
    buffer.published(2)  # cancels them all, and begins others
    await buffer.close()
    assert not parts.running and len(asyncio.all_tasks()) == 1
    await buffer.save(tmp_path)
    assert (tmp_path / FILE).exists()
