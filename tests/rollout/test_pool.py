"""The pool on real Ray: split, streamed, killed, mended; every sample once and the same."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.actors.rollout.pool import VllmRolloutPool
from raylign.config.schema import ModelConfig, RolloutConfig
from raylign.contracts import RolloutTask, Sampling, Scored
from raylign.errors import EngineDeadError
from raylign.records import Prompt

pytestmark = [pytest.mark.ray, pytest.mark.vllm]


@pytest.fixture(scope="module")
def make_pool(ray_session: None, tiny_model: Path, run: Callable[..., Any], tmp_path_factory: Any) -> Iterator[Any]:
    pools: list[VllmRolloutPool] = []

    def make(workers: int, max_restarts: int = 3) -> VllmRolloutPool:
        config = RolloutConfig(workers=workers, gpus=0.0, max_sequences=32, kv_cache_gb=0.25, max_restarts=max_restarts)
        model = ModelConfig(dtype="float32", max_context=256)
        pool = VllmRolloutPool(
            config,
            model,
            str(tiny_model),
            log_dir=tmp_path_factory.mktemp("logs"),
            options=lambda index: {"num_cpus": 1},
            deadline_s=200.0,
        )
        pools.append(pool)
        run(pool.start())
        return pool

    yield make
    for pool in pools:
        run(pool.close())


@pytest.fixture(scope="module")
def pool(make_pool: Callable[..., VllmRolloutPool]) -> VllmRolloutPool:
    return make_pool(2)


@pytest.fixture(scope="module")
def lonely(make_pool: Callable[..., VllmRolloutPool]) -> VllmRolloutPool:
    """One worker, whose second death is the end of it."""
    return make_pool(1, max_restarts=1)


def tasks_of(prompts: list[list[int]], n: int = 4, max_tokens: int = 150) -> list[RolloutTask]:
    return [
        RolloutTask(
            prompt=Prompt(id=f"p{i}", messages=(), token_ids=np.array(ids, np.int32)),
            n=n,
            sampling=Sampling(max_tokens=max_tokens),
            run_seed=7,
        )
        for i, ids in enumerate(prompts)
    ]


async def gather(
    pool: VllmRolloutPool, tasks: list[RolloutTask], meanwhile: Any = None
) -> dict[tuple[int, int], Scored]:
    found: dict[tuple[int, int], Scored] = {}
    async for items in pool.stream(tasks):
        for item in items:
            draw = (item.task, item.trajectory.sample_index)
            assert draw not in found, "a sample arrived twice"
            found[draw] = item
        if meanwhile is not None:
            await meanwhile()
    assert set(found) == {(i, k) for i, task in enumerate(tasks) for k in task.samples}
    return found


def tokens(found: dict[tuple[int, int], Scored]) -> dict[tuple[int, int], list[int]]:
    return {draw: item.trajectory.calls[0].token_ids.tolist() for draw, item in found.items()}


@pytest.fixture(scope="module")
def undisturbed(pool: VllmRolloutPool, run: Callable[..., Any], random_prompts: Any) -> Any:
    tasks = tasks_of(random_prompts(12, seed=20))
    return tasks, tokens(run(gather(pool, tasks)))


def test_two_pools_draw_the_same(lonely, undisturbed, run):
    tasks, expected = undisturbed
    assert tokens(run(gather(lonely, tasks))) == expected


def test_publish_reaches_every_worker_and_score_agrees(pool, run, reference, random_prompts):
    import ray

    changed = reference.perturbed(50)
    report = run(pool.publish(changed.update(5, put=ray.put)))
    assert report["gap_max"] <= 1e-5
    assert {"seconds", "fetch", "pause", "load", "commit", "verify", "resume", "gap_mean", "gap_max"} <= set(report)
    rows = random_prompts(5, seed=21)
    scores = run(pool.score([(np.array(row, np.int32), 2) for row in rows]))
    for row, found in zip(rows, scores, strict=True):
        assert np.abs(found - changed.logprobs(row)[1:]).max() <= 1e-5
    for item in run(gather(pool, tasks_of(rows, n=2, max_tokens=8))).values():
        assert (item.trajectory.calls[0].versions == 5).all()
    assert [worker["version"] for worker in run(pool.stats())["workers"]] == [5, 5]
    run(pool.publish(reference.update(0, put=ray.put)))


def test_a_refused_prompt_does_not_harm_its_neighbours(pool, run, random_prompts):
    tasks = tasks_of([*random_prompts(3, seed=22), list(range(6, 200)) * 2], n=2, max_tokens=5)
    found = run(gather(pool, tasks))
    assert {draw for draw, item in found.items() if item.error} == {(3, 0), (3, 1)}
    assert "388 tokens" in found[3, 0].error and found[3, 0].trajectory.calls == ()


def test_a_worker_killed_in_mid_generation_costs_no_draw(pool, undisturbed, run):
    tasks, expected = undisturbed
    before = run(pool.stats())
    victim = run(pool.pids())[0]
    killed = []

    async def kill() -> None:
        if not killed:
            killed.append(victim)
            os.kill(victim, signal.SIGKILL)

    assert tokens(run(gather(pool, tasks, meanwhile=kill))) == expected
    after = run(pool.stats())
    assert after["redrawn"] > before["redrawn"], "the worker had finished before it was killed"
    assert after["restarts"] == before["restarts"] + 1
    assert tokens(run(gather(pool, tasks))) == expected  # the rebuilt worker serves too


def test_a_rebuilt_worker_has_the_last_weights(lonely, run, reference, random_prompts):
    """Alone, so that its samples must wait for it."""
    import ray

    changed = reference.perturbed(60)
    run(lonely.publish(changed.update(9, put=ray.put)))
    tasks = tasks_of(random_prompts(6, seed=23))
    expected = tokens(run(gather(lonely, tasks)))
    os.kill(run(lonely.pids())[0], signal.SIGKILL)
    found = run(gather(lonely, tasks))
    assert tokens(found) == expected
    assert all((item.trajectory.calls[0].versions == 9).all() for item in found.values())

    os.kill(run(lonely.pids())[0], signal.SIGKILL)
    with pytest.raises(EngineDeadError, match=r"rollout worker 0 is dead after 1 restarts .*rollout-0\.log"):
        run(gather(lonely, tasks))


def test_weights_that_do_not_match_their_probe_end_the_run_with_the_cause(make_pool, run, reference):
    pool, update = make_pool(1, max_restarts=0), reference.update(3)
    wrong = replace(update, probe_logprobs=update.probe_logprobs - 1)
    with pytest.raises(EngineDeadError, match="weights of version 3 are not live"):
        run(pool.publish(wrong))


def test_a_model_that_does_not_exist_is_named(ray_session, run, tmp_path):
    config = RolloutConfig(gpus=0.0, max_restarts=0)
    pool = VllmRolloutPool(config, ModelConfig(), "/no/such/model", log_dir=tmp_path, options=lambda i: {"num_cpus": 1})
    with pytest.raises(EngineDeadError, match=r"/no/such/model"):
        run(asyncio.wait_for(pool.start(), 120))
