"""A private cluster: its own token, as many logical CPUs as the plan, refused before it starts when it cannot fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from raylign import cluster
from raylign.cluster import connect, local_gpus, local_node
from raylign.config.schema import ClusterConfig
from raylign.errors import PlanError
from raylign.plan import Plan, Role

CODE = """
import os, ray
from raylign.cluster import connect, live_nodes, shutdown
from raylign.config.schema import ClusterConfig
from raylign.plan import Plan, Role
plan = Plan(roles=(Role(name="learner", actors=9, cpus=1, gpus=0),))
checked = connect(ClusterConfig(object_store_mb=100), plan)
assert checked.nodes == (0,) * 9
assert live_nodes()[0]["CPU"] == max(9, os.cpu_count()), live_nodes()
@ray.remote(num_cpus=0)
def mode():
    return os.environ.get("RAY_AUTH_MODE"), len(os.environ.get("RAY_AUTH_TOKEN", ""))
print(*ray.get(mode.remote()))
shutdown()
assert not ray.is_initialized()
"""


@pytest.mark.ray
def test_a_private_cluster_brings_its_own_token(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**environment, "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["token", "64"]
    assert not (tmp_path / ".ray" / "auth_token").exists(), "nothing is left that changes later ray commands"


def test_too_many_gpus_are_refused_before_ray_starts() -> None:
    plan = Plan(roles=(Role(name="learner", actors=local_gpus() + 1, cpus=1, gpus=1, setting="learner.ranks"),))
    with pytest.raises(PlanError, match=r"learner\.ranks"):
        connect(ClusterConfig(), plan)


def test_no_cluster_to_join() -> None:
    code = (
        "from raylign.cluster import connect; from raylign.config.schema import ClusterConfig\n"
        "from raylign.plan import Plan, Role; from raylign.errors import PlanError\n"
        "try:\n"
        "    connect(ClusterConfig(address='127.0.0.1:1'), Plan(roles=(Role(name='a', actors=1, cpus=1, gpus=0),)))\n"
        "except PlanError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=False)
    assert "no Ray cluster at cluster.address=127.0.0.1:1" in done.stdout, done.stderr[-2000:]


def test_local_node_is_logical() -> None:
    plan = Plan(roles=(Role(name="learner", actors=100, cpus=1, gpus=0),))
    assert local_node(ClusterConfig(), plan)["CPU"] == max(100, os.cpu_count() or 1)
    assert local_node(ClusterConfig(num_cpus=3), plan)["CPU"] == 3


@pytest.mark.parametrize(("failures", "limit", "starts"), [(2, 60.0, 3), (99, 0.0, 1)])
def test_a_node_that_is_slow_to_come_up_is_started_again(
    monkeypatch: pytest.MonkeyPatch, failures: int, limit: float, starts: int
) -> None:
    """Ray's own limit of 30 seconds is short for a busy machine; `cluster.ready_timeout_s` is the one that counts."""
    tried: list[int] = []

    def init(**_: object) -> None:
        tried.append(1)
        if len(tried) <= failures:
            raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setattr(ray, "init", init)
    config, plan = ClusterConfig(ready_timeout_s=limit), Plan(roles=())
    if failures < starts:
        cluster._start(config, plan)
    else:
        with pytest.raises(PlanError, match="ready_timeout_s=0"):
            cluster._start(config, plan)
    assert len(tried) == starts
