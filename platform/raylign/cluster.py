"""The Ray cluster of a run: a private one on this machine, or one that is joined."""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray._private.utils import read_ray_address
from ray.exceptions import AuthenticationError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raylign.capacity import device_memory
from raylign.config.schema import ClusterConfig
from raylign.errors import NoClusterError, PlanError
from raylign.plan import Plan

LOCAL = "local"
SHARED_TIMEOUT_S = 180.0  # a worker process must start on every node


def local_gpus() -> int:
    """NVIDIA GPUs that this process may use, without loading CUDA."""
    devices = len(list(Path("/dev").glob("nvidia[0-9]*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return devices
    return min(devices, len([name for name in visible.split(",") if name.strip() and name.strip() != "-1"]))


def local_node(config: ClusterConfig, plan: Plan) -> dict[str, float]:
    """What a private cluster on this machine offers. CPUs are logical: a plan may have more actors than cores."""
    cpus = config.num_cpus or max(os.cpu_count() or 1, math.ceil(plan.cpus))
    return {"CPU": float(cpus), "GPU": float(local_gpus())}


def connect(config: ClusterConfig, plan: Plan) -> Plan:
    """Start or join the cluster and check that the plan fits. Raises PlanError before any actor starts."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if config.address == LOCAL:
        checked = plan.check([local_node(config, plan)], device_memory(config))
        _start(config, plan)
        return checked
    _join(config)
    kinds = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    memory = device_memory(config, kinds)
    if config.autoscale:  # on nodes to come: as many as it takes, each with all the GPUs of a bundle
        widest = max(1, math.ceil(max((role.gpus for role in plan.roles), default=0)))
        node = {"CPU": plan.cpus, "GPU": float(widest * len(plan.bundles))}
        return replace(plan.check([node] * (len(plan.bundles) + 1), memory), nodes=())
    return plan.check(live_nodes(), memory)


def live_nodes() -> list[dict[str, float]]:
    """CPUs and GPUs of every live node of the connected cluster."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [{"CPU": node.get("CPU", 0.0), "GPU": node.get("GPU", 0.0)} for node in nodes]


def without_gpus() -> bool:
    """Whether the connected cluster has no GPU at all."""
    return not any(node["GPU"] for node in live_nodes())


def check_shared(folder: Path) -> None:
    """Make sure that every node of the connected cluster sees a run folder: learners save into it, all write logs.

    Raises PlanError naming the nodes that do not. A cluster of one node is not asked.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    marker = folder / ".seen-by-all"
    marker.write_text(secrets.token_hex(16))
    blind = nodes_without(marker, nodes)
    marker.unlink()
    if blind:
        raise PlanError(
            f"run.dir = {folder} is not shared: {', '.join(blind)} of {len(nodes)} nodes do not see what is written "
            "there.\n  fix: name a folder on storage that all nodes mount (NFS, a ReadWriteMany claim, ...)"
        )


def nodes_without(file: Path, nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the nodes on which a file is absent or holds something else than here."""
    text = file.read_text() if file.exists() else ""
    answers = [
        ray.remote(num_cpus=0, max_retries=2)(_holds)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(str(file), text)
        for node in nodes
    ]
    held = ray.get(answers, timeout=SHARED_TIMEOUT_S)
    return [node["NodeManagerHostname"] for node, sees in zip(nodes, held, strict=True) if not sees]


def _holds(file: str, text: str) -> bool:
    path = Path(file)
    return path.exists() and path.read_text() == text


def shutdown() -> None:
    """Leave the cluster; a private one ends, and every actor of this run with it."""
    ray.shutdown()


def _start(config: ClusterConfig, plan: Plan) -> None:
    # Ray listens on all interfaces and by itself switches token mode on, with a token left in ~/.ray where it changes
    # what later `ray` commands do. A token of this run alone keeps the door shut and leaves nothing behind.
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Workers that Ray starts ahead lack the variables of our actors and would never be used.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    node, begun = local_node(config, plan), time.monotonic()
    while True:
        try:
            ray.init(
                address=LOCAL,
                num_cpus=int(node["CPU"]),
                num_gpus=int(node["GPU"]),
                object_store_memory=config.object_store_mb * 2**20,
                include_dashboard=config.dashboard,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            return
        except Exception as cause:  # Ray gives a node of its own 30 s to come up and raises no narrower class
            if "timed out during startup" not in str(cause):
                raise
            if time.monotonic() - begun > config.ready_timeout_s:
                raise PlanError(
                    f"Ray did not start on this machine within cluster.ready_timeout_s={config.ready_timeout_s:g}: "
                    "it is too busy; wait, or raise the limit"
                ) from cause


def _join(config: ClusterConfig) -> None:
    _reachable(config.address)
    has_token = "RAY_AUTH_TOKEN" in os.environ or Path("~/.ray/auth_token").expanduser().exists()
    if has_token:  # a client without the mode is refused by a cluster that has it
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        ray.init(address=config.address, log_to_driver=False, logging_level=logging.ERROR)
    except AuthenticationError as cause:
        raise PlanError(
            f"the cluster at {config.address} wants a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or put the "
            "cluster's token into ~/.ray/auth_token)"
        ) from cause
    except (ConnectionError, ValueError) as cause:
        raise NoClusterError(
            f"no Ray cluster at cluster.address={config.address} ({str(cause).splitlines()[0]}); start one with "
            "`ray start --head`, or set cluster.address=local"
        ) from cause


def _reachable(address: str) -> None:
    """Ray waits for minutes for a head that does not answer; five seconds tell as much. Raises PlanError."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or read_ray_address() or address
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as cause:
        raise NoClusterError(
            f"no Ray cluster at cluster.address={address} ({cause}); start one with `ray start --head`, or set "
            "cluster.address=local"
        ) from cause
