"""Several raylets on one machine: a node with a rollout worker dies, the run goes on without it; another one joins."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.sides.chaos import (
    NODE,
    NODES,
    TITLES,
    Schedule,
    disturbed,
    processes,
    samples_of,
    steps_of,
    weights_of,
)
from benchmarks.sides.hands import HEAD
from ray.cluster_utils import Cluster
from short_runs import train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
STEPS = 24
PAUSE_S, JOIN_S = 8.0, 120.0
PLAN = [*NODES, f"stages.rl.steps={STEPS}"]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    running = Cluster(initialize_head=True, head_node_args=HEAD)
    yield running
    running.shutdown()


def hold_back(folder: Path) -> bool:
    """Let the learner rest after each step until a step was made with two workers, so that no machine is too slow."""
    deadline = time.monotonic() + JOIN_S
    while time.monotonic() < deadline:
        rows = steps_of(folder)
        if rows[-1]["workers/rollout"] == 2:
            return True
        learners = processes(os.getpid(), TITLES["learner"])
        for learner in learners:
            os.kill(learner, signal.SIGSTOP)
        time.sleep(PAUSE_S)
        for learner in learners:
            os.kill(learner, signal.SIGCONT)
        while len(steps_of(folder)) == len(rows) < STEPS and time.monotonic() < deadline:
            time.sleep(0.05)
    return False


def test_a_node_leaves_and_another_joins(cluster: Cluster, tmp_path: Path) -> None:
    first = cluster.add_node(**NODE)
    changes = [
        Schedule(role="leave", phase="rollout", step=4, delay=0.05),
        Schedule(role="join", phase="rollout", step=8, delay=0.0),
    ]

    def change(_: int, schedule: Schedule) -> bool:
        if schedule.role == "leave":
            cluster.remove_node(first, allow_graceful=False)
            return True
        cluster.add_node(**NODE)
        return hold_back(shaken)

    shaken = tmp_path / "shaken"
    run = disturbed(shaken, [*PLAN, f"cluster.address={cluster.address}"], changes, by=change)
    assert run.code == 0, run.output[-4000:]
    assert run.struck == changes
    serving = {row["step"]: row["workers/rollout"] for row in steps_of(shaken)}
    assert list(serving) == list(range(1, STEPS + 1))
    assert serving[3] == 2 and serving[7] == 1, "steps were made with the worker that was left"
    assert serving[STEPS] == 2, "a worker on the new node serves again"
    whole = tmp_path / "whole"
    train(whole, [*PLAN, "rollout.workers=1"])
    assert samples_of(shaken) == samples_of(whole) and weights_of(shaken) == weights_of(whole)
