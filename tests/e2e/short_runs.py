"""Short runs of the command line in a process of their own; some are killed, of some is kept what a kill would leave.

They join one Ray cluster, which saves each of them the seconds that a cluster of its own takes to come and go.
"""

from __future__ import annotations

import atexit
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import orjson
from ray.cluster_utils import Cluster

HERE = Path(__file__).parent


@cache
def cluster() -> str:
    """The address of the cluster, started when first asked for."""
    head = {"num_cpus": 6, "include_dashboard": False, "object_store_memory": 300_000_000}
    running = Cluster(initialize_head=True, head_node_args=head)
    atexit.register(running.shutdown)
    return str(running.address)


Moment: TypeAlias = tuple[str, int]  # a phase, and the step of the stage that it belongs to


def train(
    folder: Path,
    overrides: Sequence[str],
    die: tuple[str, int, float] | None = None,
    keep: Mapping[Path, Moment] = MappingProxyType({}),
    status: int = 0,
) -> str:
    """Run to this exit status, or to a death by SIGKILL `(phase, step, delay in s)` that must come; what it printed.

    keep: folders that become what a death at a moment would have left of `folder`: `train` resumes from them.
    """
    left = [[*moment, str(path)] for path, moment in keep.items()]
    orders = orjson.dumps({"kill": die or [], "keep": left, "run": str(folder)}).decode()
    command = [sys.executable, str(HERE / "dying.py"), orders, "train", *overrides]
    command += [f"run.dir={folder}", f"cluster.address={cluster()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    expected = -signal.SIGKILL if die else status
    assert done.returncode == expected, f"{die}: {done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    assert all(path.exists() for path in keep), f"the run never came to one of {list(keep.values())}"
    return done.stdout


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def steps(folder: Path, stage: str) -> list[dict[str, Any]]:
    """The metrics of a stage, step by step."""
    return [row for row in lines(folder / "metrics.jsonl") if row["stage"] == stage]


def weights(folder: Path, stage: str) -> bytes:
    """The weights that a stage exported."""
    return (folder / "stages" / stage / "model" / "model.safetensors").read_bytes()
