"""When a run ends by an error, what every role was doing: each actor writes its threads' stacks to its own log.

The signal works on actors that are stuck in a call and would answer no other one.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import defaultdict
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

WAIT_S = 10.0


class Actor(NamedTuple):
    """A live actor of this job."""

    role: str  # name of its class
    pid: int
    address: str
    node: str

    def __str__(self) -> str:
        return f"{self.role} (pid {self.pid} on {self.address})"


def live_actors() -> list[Actor]:
    """All live actors of this job."""
    from ray._private import state  # the public listing needs the dashboard, which a run may do without

    job = ray.get_runtime_context().get_job_id()
    rows: list[dict[str, Any]] = list(state.actors().values())
    return [
        Actor(row["ActorClassName"], row["Pid"], row["Address"]["IPAddress"], row["Address"]["NodeID"])
        for row in rows
        if row["JobID"] == job and row["State"] == "ALIVE" and row["Pid"]
    ]


def dump_stacks() -> list[str]:
    """Have every live actor write its stacks to its log. Returns who was asked, node by node; blocks for seconds."""
    by_node: dict[str, list[Actor]] = defaultdict(list)
    for actor in live_actors():
        by_node[actor.node].append(actor)
    calls = [
        _signal.options(  # type: ignore[attr-defined]
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote([actor.pid for actor in actors])
        for node, actors in by_node.items()
    ]
    ray.wait(calls, num_returns=len(calls), timeout=WAIT_S) if calls else None
    return sorted(str(actor) for actors in by_node.values() for actor in actors)


@ray.remote
def _signal(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGUSR1)
