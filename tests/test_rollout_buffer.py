"""The rollout buffer over scripted rollouts of known duration: capacity, staleness, order, refills, resumption."""

from __future__ import annotations

import asyncio
import os
import pickle
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign import plain
from raylign.contracts import RolloutTask, Sampling, Scored, WeightUpdate
from raylign.data.source import DatasetSource
from raylign.errors import CheckpointError, EngineDeadError
from raylign.loop import LoopSettings, StepSettings
from raylign.loop.rollout_buffer import FILE, RolloutBuffer
from raylign.records import Call, Prompt, Reward, StopReason, Trajectory, Value


class Clocked:
    """Rollouts and rewards whose group of prompt i ends after ``ticks(i)`` calls of `tick`."""

    def __init__(self, ticks: Callable[[int], int]) -> None:
        self.ticks, self.now, self.version = ticks, 0, 0
        self.begun: list[str] = []
        self.running: set[str] = set()

    async def stream(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        for number, task in enumerate(tasks):
            key, version = task.prompt.key, self.version
            end = self.now + self.ticks(int(task.prompt.id))
            self.begun.append(key)
            self.running.add(key)
            try:
                while self.now < end:
                    await asyncio.sleep(0)
            finally:
                self.running.discard(key)
            call = Call(
                context_ids=np.zeros(0, np.int32),
                token_ids=np.array([1, 2], np.int32),
                logprobs=np.zeros(2, np.float32),
                versions=np.array([version, self.version], np.int32),
                stop=StopReason.EOS,
            )
            for index in range(task.n):
                one = Trajectory(prompt_key=key, sample_index=index, calls=(call,), seed=0, stop=StopReason.EOS)
                yield [Scored(task=number, trajectory=one)]

    async def publish(self, weights: WeightUpdate) -> dict[str, float]:
        return {}

    async def busy(self) -> tuple[float, int]:
        return 0.0, 0

    async def score(self, prompt: Prompt, trajectory: Trajectory) -> Mapping[str, Reward]:
        return {"one": Value(score=1.0)}

    async def score_group(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Mapping[str, Reward]]:
        return [{} for _ in trajectories]


def source(count: int = 40) -> DatasetSource:
    prompts = [Prompt(id=str(i), messages=(), token_ids=np.array([i], np.int32)) for i in range(count)]
    return DatasetSource(DatasetSource.Config(shuffle=False), prompts=prompts, seed=1)


def make(environment: Clocked, staleness: int, prompts: Any = None, **settings: Any) -> RolloutBuffer:
    stall_s = settings.pop("stall_s", 5.0)
    step = StepSettings(**{"steps": 0, "prompts_per_step": 4, "group_size": 2, "staleness": staleness, **settings})
    numbers = LoopSettings(step=step, seed=1, sampling=Sampling(max_tokens=4), stall_s=stall_s)
    return RolloutBuffer(prompts or source(), environment, environment, numbers)  # type: ignore[arg-type]


async def run(environment: Clocked, buffer: RolloutBuffer, steps: int, first: int = 0) -> list[list[str]]:
    """Steps of a learner that needs three ticks for an update."""
    taken = []
    environment.version = first
    buffer.published(first)
    for version in range(first, first + steps):
        taking = asyncio.ensure_future(buffer.take(4))
        while not taking.done():
            await _pass(environment)
        taken.append([group.prompt.id for group in taking.result().groups])
        for _ in range(3):
            await _pass(environment)
        environment.version = version + 1
        buffer.published(version + 1)
    return taken


async def _pass(environment: Clocked) -> None:
    environment.now += 1
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("staleness", [0, 1, 3])
async def test_no_prompt_is_lost_or_used_twice(staleness: int) -> None:
    environment = Clocked(lambda i: 1 + (7 * i) % 5)
    buffer = make(environment, staleness)
    taken = await run(environment, buffer, 6)
    flat = [name for step in taken for name in step]
    assert len(flat) == 24
    assert max(Counter(flat).values()) == 1
    assert all(step == sorted(step, key=int) for step in taken)
    await buffer.close()
    assert not environment.running


@pytest.mark.parametrize("staleness", [0, 1, 2])
async def test_never_more_begun_than_the_capacity(staleness: int) -> None:
    environment = Clocked(lambda i: 2)
    buffer = make(environment, staleness)
    buffer.published(0)
    environment.version = 0
    for version in range(4):
        await _pass(environment)
        limit = (version + staleness + 1) * 4
        taking = asyncio.ensure_future(buffer.take(4))
        while not taking.done():
            await _pass(environment)
        assert len(environment.begun) <= limit
        assert staleness == 0 or len(environment.begun) == limit, "rollouts run ahead as far as they may"
        environment.version = version + 1
        buffer.published(version + 1)
    await buffer.close()


async def test_staleness_zero_begins_nothing_before_it_is_asked() -> None:
    environment = Clocked(lambda i: 1)
    buffer = make(environment, 0)
    buffer.published(0)
    await _pass(environment)
    assert environment.begun == []
    assert buffer.metrics() == {}


async def test_a_straggler_is_cancelled_counted_and_begun_again() -> None:
    slow = {"left": 1}

    def ticks(i: int) -> int:
        if i == 2 and slow["left"]:
            slow["left"] = 0
            return 10_000
        return 2

    environment = Clocked(ticks)
    buffer = make(environment, 1)
    stale, taken, ages = 0.0, [], []
    environment.version = 0
    buffer.published(0)
    for version in range(5):
        taking = asyncio.ensure_future(buffer.take(4))
        while not taking.done():
            await _pass(environment)
        taken += [group.prompt.id for group in taking.result().groups]
        environment.version = version + 1
        buffer.published(version + 1)
        metrics = buffer.metrics()
        stale += metrics["async/stale_groups"]
        ages.append(metrics["async/staleness_max"])
    assert stale == 1.0
    assert environment.begun.count("2#0") == 2
    assert taken.count("2") == 1
    assert max(ages) <= 1, "nothing older than the staleness is learned from"
    await buffer.close()


async def test_groups_given_back_make_room_within_the_same_version() -> None:
    """Dynamic sampling may refill more often than the staleness alone has room for."""
    environment = Clocked(lambda i: 1)
    buffer = make(environment, 1)
    buffer.published(0)
    for _ in range(5):  # five rounds of which nothing is kept, all under version 0
        taking = asyncio.ensure_future(buffer.take(4))
        while not taking.done():
            await _pass(environment)
        buffer.replace(4)
    await buffer.close()


async def test_nothing_runs_ahead_of_the_last_step() -> None:
    environment = Clocked(lambda i: 1)
    buffer = make(environment, 3, steps=5)
    await run(environment, buffer, 5)
    assert len(environment.begun) == 20
    await buffer.close()


async def test_a_restart_keeps_what_was_finished_and_begins_the_rest_again(tmp_path: Path) -> None:
    environment = Clocked(lambda i: 1 if i % 3 else 6)
    prompts = source()
    buffer = make(environment, 2, prompts)
    before = await run(environment, buffer, 2)
    await buffer.save(tmp_path)
    state = prompts.state_dict()
    await buffer.close()

    again = source()
    again.load_state_dict(state)
    environment = Clocked(lambda i: 1)
    buffer = make(environment, 2, again)
    buffer.restore(tmp_path, 2)
    after = await run(environment, buffer, 4, first=2)
    flat = [name for step in before + after for name in step]
    assert len(flat) == len(set(flat)) == 24
    assert set(map(str, range(18))) <= set(flat), "prompts in flight are first in line"
    await buffer.close()

    with pytest.raises(CheckpointError, match="groups in flight"):
        make(environment, 0).restore(tmp_path, 2)


class Payload:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        """What pickle calls."""
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("value", [Payload(), os.system, Clocked, eval, getattr, np.load, np.random.default_rng(0)])
def test_nothing_is_executed_when_a_run_is_resumed(tmp_path: Path, monkeypatch: Any, value: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / FILE).write_bytes(pickle.dumps({"numbers": 1, "again": [value], "finished": []}))
    with pytest.raises(CheckpointError, match="no plain data"):
        make(Clocked(lambda i: 1), 2).restore(tmp_path, 2)
    assert not (tmp_path / "pwned").exists()


def test_records_come_back_from_a_pickle_bit_for_bit() -> None:
    prompt = Prompt(
        id="a", messages=({"role": "user", "content": "x"},), token_ids=np.arange(3, dtype=np.int32),
        meta={"x": {1, 2.5}, "y": np.float32(0.1), "z": (1j, b"b", Counter("aa"))},
    )  # fmt: skip
    back = plain.loads(pickle.dumps([prompt, Value(score=0.1, channels={"c": np.ones(2, np.float32)}), StopReason.EOS]))
    assert back[0].meta == prompt.meta and back[0].token_ids.tobytes() == prompt.token_ids.tobytes()
    assert back[1].channels["c"].dtype == np.float32 and back[2] is StopReason.EOS


async def test_a_dead_engine_ends_the_step() -> None:
    class Dead(Clocked):
        async def stream(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
            raise EngineDeadError("rollout worker 0 is dead after 3 restarts")
            yield []

    buffer = make(Dead(lambda i: 1), 1)
    buffer.published(0)
    with pytest.raises(EngineDeadError, match="dead after 3 restarts"):
        await buffer.take(4)
    await buffer.close()


async def test_silence_ends_the_step() -> None:
    buffer = make(Clocked(lambda i: 10_000), 1, stall_s=0.05)
    buffer.published(0)
    with pytest.raises(EngineDeadError, match=r"no (group|trajectory) finished"):
        await buffer.take(4)
    await buffer.close()
