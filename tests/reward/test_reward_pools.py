"""Reward pools on real Ray: every failure of a function or an actor, and nothing lost or made up."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray

from raylign.actors.reward import pool as pool_module
from raylign.actors.reward.pools import RewardPools
from raylign.actors.reward.response import trajectory_of
from raylign.config.schema import RewardConfig
from raylign.errors import RewardError
from raylign.records import Absent, Missing, Prompt, Reward, Trajectory, Value

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]
HERE = Path(__file__).parent
ACT = {"_target_": "raylign.actors.reward.python.PythonFunction", "path": "hostile_rewards.act"}
ISOLATED = {**ACT, "isolated": True}


def options(name: str, index: int) -> Mapping[str, Any]:
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"num_cpus": 0.1, "runtime_env": {"env_vars": {"PYTHONPATH": path}}}


@asynccontextmanager
async def running(log_dir: Path, **configs: RewardConfig) -> AsyncIterator[RewardPools]:
    pools = RewardPools(configs, log_dir=log_dir, options=options)
    try:
        await pools.start()
        yield pools
    finally:
        await pools.close()


def prompt(number: int = 0, **meta: Any) -> Prompt:
    return Prompt(id=f"p{number}", messages=(), token_ids=np.zeros(1, np.int32), answer="1", meta=meta)


def say(response: str, number: int = 0) -> tuple[Prompt, Trajectory]:
    task = prompt(number)
    return task, trajectory_of(task, response)


async def scored(pools: RewardPools, response: str, name: str = "r") -> Reward:
    return (await pools.score(*say(response)))[name]


def reason(reward: Reward) -> str:
    assert isinstance(reward, Missing), reward
    return reward.reason


async def test_calls_of_one_moment_travel_together(tmp_path: Path) -> None:
    async with running(tmp_path, r=RewardConfig(fn=ACT, workers=2)) as pools:
        pools.metrics()
        rewards = await asyncio.gather(*(pools.score(*say(str(i), i)) for i in range(256)))
        assert [reward["r"] for reward in rewards] == [Value(score=float(i)) for i in range(256)]
        metrics = pools.metrics()
        assert metrics["reward_pool/r/items"] == 256 and 2 <= metrics["reward_pool/r/rpcs"] <= 8
        assert 0 < metrics["reward_pool/r/latency_mean_s"] <= metrics["reward_pool/r/latency_max_s"]
        assert metrics["reward_pool/r/missing"] == metrics["restarts/reward/r"] == 0
        pids = {reward["r"].score for reward in await asyncio.gather(*(pools.score(*say("pid")) for _ in range(8)))}
        assert len(pids) == 2  # both actors work
    assert "reward-r-0.log" in {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("fn", [ACT, ISOLATED], ids=["here", "isolated"])
async def test_errors_are_missing_and_never_zero(tmp_path: Path, fn: dict[str, Any]) -> None:
    async with running(tmp_path, r=RewardConfig(fn=fn, retries=1)) as pools:
        values = await asyncio.gather(
            scored(pools, "0.5"),
            scored(pools, "raise the alarm"),
            scored(pools, "nan"),
            scored(pools, "text none"),
            scored(pools, "sysexit"),
            scored(pools, f"once {tmp_path / 'flag'} raise it"),
            scored(pools, "0.0"),
            scored(pools, "absent"),
        )
        assert values[0] == Value(score=0.5) and values[6] == Value(score=0.0)
        assert reason(values[1]) == "ValueError: the alarm"
        assert "the score is nan" in reason(values[2])
        assert "expected a number" in reason(values[3])
        assert reason(values[4]) == "SystemExit: 3"
        assert values[5] == Value(score=1.0)  # the retry
        assert values[7] == Absent()
        metrics = pools.metrics()
        assert metrics["reward_pool/r/missing"] == metrics["reward_pool/r/missing_error"] == 4
    log = (tmp_path / "reward-r-0.log").read_text()
    assert log.count("ValueError: the alarm") == 1 and 'hostile_rewards.py", line' in log  # tried twice, said once


async def test_wrong_number_of_values(tmp_path: Path) -> None:
    miscounting = RewardConfig(fn={"_target_": "hostile_rewards.Miscounting"}, retries=0)
    group = RewardConfig(fn={**ACT, "path": "hostile_rewards.too_few", "scope": "GROUP"}, retries=0)
    async with running(tmp_path, one=miscounting, group=group) as pools:
        assert "2 values for 1 trajectories" in reason(await scored(pools, "1", "one"))
        task = prompt()
        rewards = await pools.score_group(task, [trajectory_of(task, "a")] * 3)
        assert len(rewards) == 3 and all("2 values for 3 responses" in reason(each["group"]) for each in rewards)


async def test_isolated_hang_and_death_leave_the_actor_alone(tmp_path: Path) -> None:
    async with running(tmp_path, r=RewardConfig(fn=ISOLATED, retries=1, timeout_s=0.5)) as pools:
        values = await asyncio.gather(
            *(scored(pools, text) for text in ("0.1", "hang", "0.2", "exit", "0.3", "segfault", "0.4"))
        )
        assert [values[i].score for i in (0, 2, 4, 6)] == [0.1, 0.2, 0.3, 0.4]
        assert reason(values[1]) == "timeout after 0.5 s"
        assert all("ended its process" in reason(values[i]) for i in (3, 5))
        metrics = pools.metrics()
        assert metrics["reward_pool/r/missing_timeout"] == 1 and metrics["reward_pool/r/missing_died"] == 2
        assert metrics["reward_pool/r/children"] >= 5 and metrics["restarts/reward/r"] == 0  # each was tried twice


async def test_hang_in_the_actor_is_found_and_the_neighbours_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "GRACE_S", 1.0)
    async with running(tmp_path, r=RewardConfig(fn=ACT, retries=0, timeout_s=0.5)) as pools:
        values = await asyncio.gather(*(scored(pools, text) for text in ("0.1", "hang", "0.2", "exit", "0.3")))
        assert [values[i].score for i in (0, 2, 4)] == [0.1, 0.2, 0.3]
        assert reason(values[1]) == "timeout after 0.5 s"
        assert "its worker died" in reason(values[3])


async def test_a_slow_batch_is_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "GRACE_S", 1.0)
    async with running(tmp_path, r=RewardConfig(fn=ACT, retries=0, timeout_s=0.5)) as pools:
        started = time.monotonic()
        values = await asyncio.gather(*(scored(pools, "sleep 0.2") for _ in range(12)))
        assert values == [Value(score=1.0)] * 12
        assert time.monotonic() - started < 10 and pools.metrics()["restarts/reward/r"] == 0


@pytest.mark.parametrize("fn", [ACT, ISOLATED], ids=["here", "isolated"])
async def test_an_actor_killed_in_mid_call_loses_nothing(tmp_path: Path, fn: dict[str, Any]) -> None:
    async with running(tmp_path, r=RewardConfig(fn=fn, retries=0, workers=2)) as pools:
        calls = [asyncio.ensure_future(scored(pools, "sleep 0.05")) for _ in range(40)]
        await asyncio.sleep(0.3)
        actor = pools._pools["r"]._handles[0].actor
        ray.kill(actor)
        assert await asyncio.gather(*calls) == [Value(score=1.0)] * 40
        assert pools.metrics()["restarts/reward/r"] == 1


async def test_an_actor_process_killed_from_outside_leaves_no_orphan(tmp_path: Path) -> None:
    async with running(tmp_path, r=RewardConfig(fn=ISOLATED, retries=0)) as pools:
        child = int((await scored(pools, "pid")).score)
        worker = psutil.Process(child).parent().parent()
        call = asyncio.ensure_future(scored(pools, "sleep 1"))
        await asyncio.sleep(0.3)
        os.kill(worker.pid, signal.SIGKILL)
        assert await call == Value(score=1.0)
        assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
        new = int((await scored(pools, "pid")).score)
    for _ in range(100):
        if not psutil.pid_exists(new):
            break
        await asyncio.sleep(0.05)
    assert not psutil.pid_exists(new)  # close() ends the children too


async def test_group_scope_and_trajectory_scope_side_by_side(tmp_path: Path) -> None:
    rank = RewardConfig(fn={**ACT, "path": "hostile_rewards.rank", "scope": "GROUP"})
    async with running(tmp_path, rank=rank, r=RewardConfig(fn=ACT)) as pools:
        task = prompt()
        texts = ["1", "22", "333", "4444"]
        trajectories = [trajectory_of(task, text) for text in texts]
        group = await pools.score_group(task, trajectories)
        assert [each["rank"].score for each in group] == [0.0, 0.25, 0.5, 0.75]
        assert [set(each) for each in group] == [{"rank"}] * 4
        single = await pools.score(task, trajectories[1])
        assert single == {"r": Value(score=22.0)}


async def test_validation_lists_every_problem(tmp_path: Path) -> None:
    fn = {"_target_": "hostile_rewards.Provable"}
    good = [prompt(0, gold="1", wrong="0"), prompt(1, gold="1.0"), prompt(2)]
    bad = [
        prompt(3, gold="0.5"),
        prompt(4, wrong="1"),
        prompt(5, gold="raise it"),
        prompt(6, gold="nan"),
        prompt(7, gold="broken"),
    ]
    async with running(tmp_path, r=RewardConfig(fn=fn, retries=0)) as pools:
        await pools.validate(good)
        with pytest.raises(RewardError) as caught:
            await pools.validate(good + bad)
    text = str(caught.value)
    for expected in (
        "r: prompt p3: the gold response '0.5' scores 0.5, not the maximum 1",
        "prompt p4: a wrong response '1' scores 1, the maximum",
        "prompt p5: the gold response 'raise it' fails (error): ValueError: it",
        "the score is nan",
        "prompt p7: KeyError",
    ):
        assert expected in text
    assert len(text.splitlines()) == 6


async def test_validation_survives_hangs_and_deaths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "GRACE_S", 1.0)
    config = RewardConfig(fn={"_target_": "hostile_rewards.Provable"}, retries=0, timeout_s=0.5)
    async with running(tmp_path, r=config) as pools:
        with pytest.raises(RewardError, match=r"(?s)timeout after 0\.5 s.*its worker died"):
            await pools.validate([prompt(0, gold="hang"), prompt(1, gold="exit")])


async def test_unpicklable_input_is_charged_to_its_item(tmp_path: Path) -> None:
    async with running(tmp_path, r=RewardConfig(fn=ACT, retries=0)) as pools:
        task = prompt(0, callback=lambda: None, lock=__import__("threading").Lock())
        bad = pools.score(task, trajectory_of(task, "1"))
        good = pools.score(*say("0.5", 1))
        rewards = await asyncio.gather(bad, good)
        assert "serialize" in reason(rewards[0]["r"]) or "pickle" in reason(rewards[0]["r"])
        assert rewards[1]["r"] == Value(score=0.5)


async def test_start_and_close_errors(tmp_path: Path) -> None:
    configs = {
        "a": RewardConfig(fn={**ACT, "path": "hostile_rewards.nothing"}),
        "b": RewardConfig(fn={**ACT, "pth": "x"}),
        "c": RewardConfig(fn=ACT),
    }
    pools = RewardPools(configs, log_dir=tmp_path, options=options)
    with pytest.raises(RewardError, match=r"(?s)reward a: .*no nothing.*reward b: .*did you mean path"):
        await pools.start()
    async with running(tmp_path, r=RewardConfig(fn=ACT)) as pools:
        waiting = asyncio.ensure_future(scored(pools, "sleep 30"))
        await asyncio.sleep(0.2)
        await pools.close()
        with pytest.raises(RewardError, match="closed"):
            await waiting
        with pytest.raises(RewardError, match="closed"):
            await scored(pools, "1")


async def test_a_cancelled_caller_does_no_harm(tmp_path: Path) -> None:
    async with running(tmp_path, r=RewardConfig(fn=ACT)) as pools:
        calls = [asyncio.ensure_future(scored(pools, "sleep 0.1")) for _ in range(4)]
        await asyncio.sleep(0.05)
        for call in calls[:3]:
            call.cancel()
        assert await calls[3] == Value(score=1.0)
        assert await scored(pools, "0.5") == Value(score=0.5)
        assert not pools._pools["r"]._pending
