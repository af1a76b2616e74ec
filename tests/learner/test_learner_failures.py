"""A learner group lives and dies as one: what a user sees when a rank raises, dies, hangs, or meets a NaN."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learner_cases import CROSS_ENTROPY, POLICY, learner_config, logprobs_of, make_batch, read_weights, run

from raylign.actor_env import actor_env
from raylign.actors.learner.group import LearnerGroup
from raylign.actors.learner.ranks import RankGroup, plain_errors
from raylign.actors.learner.spec import LearnerSpec
from raylign.actors.learner.worker import LearnerWorker
from raylign.errors import LearnerError

pytestmark = [pytest.mark.ray, pytest.mark.deepspeed]

BATCH = make_batch()


@pytest.fixture
def fresh_group(ray_session: None, tiny_model: Path, tmp_path: Path) -> Iterator[Callable[..., LearnerGroup]]:
    groups: list[LearnerGroup] = []

    def make(ranks: int = 2, deadline_s: float = 120.0, **changes: Any) -> LearnerGroup:
        config = learner_config(ranks=ranks, **changes)
        group = LearnerGroup("doomed", config, log_dir=tmp_path, options=lambda rank: {"num_cpus": 0.5})
        groups.append(group)
        run(group.start())
        spec = LearnerSpec(model_path=str(tiny_model), learner=config, total_steps=10, deadline_s=deadline_s)
        run(group.load(spec))
        return group

    yield make
    for group in groups:
        run(group.close())


def alive(pids: tuple[int, ...]) -> list[int]:
    def runs(pid: int) -> bool:
        try:
            return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):  # gone before the open, or between it and the read
            return False

    return [pid for pid in pids if runs(pid)]


def wait_until_gone(pids: tuple[int, ...], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(pids)


@pytest.mark.timeout(120)
def test_a_rank_that_dies_ends_the_group_with_its_name(fresh_group: Callable[..., LearnerGroup]) -> None:
    group = fresh_group(zero_stage=2)
    run(group.update(BATCH, CROSS_ENTROPY))
    os.kill(group.pids[1], signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(LearnerError, match=r"rank 1 of 2 .*learner-doomed-1\.log\): the process died"):
        run(group.update(BATCH, CROSS_ENTROPY))
    assert time.monotonic() - started < 60
    wait_until_gone(group.pids)
    with pytest.raises(LearnerError, match="group is dead"):
        logprobs_of(group, BATCH)


def test_a_new_group_after_a_death_starts_clean(fresh_group: Callable[..., LearnerGroup]) -> None:
    first = fresh_group()
    os.kill(first.pids[0], signal.SIGKILL)
    with pytest.raises(LearnerError):
        run(first.update(BATCH, CROSS_ENTROPY))
    second = fresh_group()
    assert run(second.update(BATCH, CROSS_ENTROPY)).metrics["learner/optimizer_step"] == 1


@pytest.fixture(scope="module")
def lone_worker(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One rank without its group, so that it can be looked at after a refusal."""
    import ray

    env = {"env_vars": actor_env(1, gpu=False)}
    actor = ray.remote(LearnerWorker).options(num_cpus=0.5, runtime_env=env)
    worker = actor.remote(0, 1, str(tmp_path_factory.mktemp("logs") / "lone.log"))
    _, _, port = ray.get(worker.address.remote())
    ray.get(worker.start.remote("127.0.0.1", port, 1, False, 100.0))
    yield lambda method, *args: ray.get(getattr(worker, method).remote(*args))
    ray.kill(worker)


@pytest.mark.parametrize(
    ("stage", "dtype"),
    [(0, "float32"), (1, "float32"), (2, "float32"), (3, "float32"), (1, "bfloat16"), (2, "bfloat16")],
)
def test_what_is_not_finite_is_refused_and_not_applied(
    lone_worker: Callable[..., Any], tiny_model: Path, stage: int, dtype: str
) -> None:
    config = learner_config(zero_stage=stage)
    lone_worker("load", LearnerSpec(model_path=str(tiny_model), learner=config, total_steps=10, dtype=dtype))
    lone_worker("update", BATCH, POLICY)
    before = read_weights(lone_worker("publish", 1))
    advantage = BATCH["advantage"].copy()
    advantage[np.flatnonzero(BATCH["loss_mask"])[3]] = np.nan
    with pytest.raises(LearnerError, match="step 1: loss/policy is nan; the step was not applied"):
        lone_worker("update", BATCH.with_streams(advantage=advantage), POLICY)
    assert_equal_weights(read_weights(lone_worker("publish", 2)), before)


@pytest.mark.parametrize(
    ("stage", "dtype"),
    [(0, "float32"), (1, "float32"), (2, "float32"), (3, "float32"), (1, "bfloat16"), (3, "bfloat16")],
)
def test_an_infinite_gradient_is_refused_and_not_applied(
    lone_worker: Callable[..., Any], tiny_model: Path, stage: int, dtype: str
) -> None:
    config = learner_config(zero_stage=stage)
    fields = {"model_path": str(tiny_model), "learner": config, "total_steps": 10, "dtype": dtype}
    lone_worker("load", LearnerSpec(**fields, temperature=1e-15))
    before = read_weights(lone_worker("publish", 1))
    # The ratio is 1, so the loss is the mean advantage; the gradient is that times 1 / temperature, beyond float32.
    node = {"_target_": "raylign.objectives.loss.policy.ClippedLoss"}
    huge = (BATCH["advantage"] * 1e30).astype(np.float32)
    with pytest.raises(LearnerError, match="step 0: the gradient norm is not finite; the step was not applied"):
        lone_worker("update", BATCH.with_streams(advantage=huge), node)
    assert_equal_weights(read_weights(lone_worker("publish", 2)), before)


def assert_equal_weights(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    for name, wanted in theirs.items():
        np.testing.assert_array_equal(mine[name], wanted, err_msg=name)


def test_a_bad_objective_names_its_key(fresh_group: Callable[..., LearnerGroup]) -> None:
    group = fresh_group(ranks=1)
    with pytest.raises(LearnerError, match="clip_hihg"):
        run(group.update(BATCH, {**POLICY, "clip_hihg": 0.3}))


def stuck_worker() -> type:
    """A rank that raises, or waits for ever as in a collective. Local, so that Ray pickles it by value."""

    class Stuck:
        def __init__(self, rank: int, ranks: int, log: str) -> None:
            self.rank = rank

        @plain_errors
        def work(self, seconds: float) -> int:
            if self.rank == 1:
                raise KeyError("the real cause")
            time.sleep(seconds)
            return self.rank

    return Stuck


@pytest.mark.timeout(60)
def test_the_first_rank_that_raises_ends_the_others(ray_session: None, tmp_path: Path) -> None:
    group = RankGroup(stuck_worker(), "stuck", 3, tmp_path, lambda rank: {"num_cpus": 0.1})
    group.spawn(1, gpu=False)
    started = time.monotonic()
    with pytest.raises(LearnerError, match=r"stuck.work failed on rank 1 of 3 .*KeyError in work: 'the real cause'"):
        run(group.call("work", 600.0, deadline=300.0))
    assert time.monotonic() - started < 30


@pytest.mark.timeout(60)
def test_a_missed_deadline_names_the_late_ranks(ray_session: None, tmp_path: Path) -> None:
    group = RankGroup(stuck_worker(), "late", 1, tmp_path, lambda rank: {"num_cpus": 0.1})
    group.spawn(1, gpu=False)
    with pytest.raises(LearnerError, match=r"late.work missed its deadline of 3 s on rank 0 of 1"):
        run(group.call("work", 600.0, deadline=3.0))
