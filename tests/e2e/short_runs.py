"""Short runs of the command line; some are killed, of some is kept what a kill would leave.

They join one Ray cluster, which saves each of them the seconds that a cluster of its own takes to come and go, and
whose workers are forked from a process that has imported everything (`warm`). Runs that are to be killed start cold, of
several in a row the first.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import orjson
import pytest
import warm
from dying import at_phases
from warm_start import COLD

from raylign.cli import main

HERE = Path(__file__).parent
PATHS = (HERE, HERE.parents[1])  # where the cluster's workers find `letters` and `benchmarks`

# What every worker of a driver started with this gets besides its own variables.
WORKERS_COLD = ("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": {"env_vars": {COLD: "1"}}}))


@cache
def cluster() -> str:
    """The address of the cluster, started when first asked for."""
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, PATHS), os.environ.get("PYTHONPATH", "")])
    return str(warm.cluster(cpus=6, memory=300_000_000).address)


Moment: TypeAlias = tuple[str, str, int]  # a stage, a phase, and the step of the stage that it belongs to


def train(
    folder: Path,
    overrides: Sequence[str],
    keep: Mapping[Path, Moment] = MappingProxyType({}),
    status: int = 0,
    cold: bool = False,
) -> str:
    """Run the command line here, to this exit status; what it printed.

    keep: folders that become what a death at a moment would have left of `folder`: `train` resumes from them.
    cold: no worker is forked from the warm process. A few runs that resume are (models, pairs, a critic, environments):
    their weights are compared with those of a warm run.
    """

    def copy(*now: str | int) -> None:
        for path, moment in keep.items():
            if moment == now:  # no checkpoint is being written: only the driver, who waits, saves
                shutil.copytree(folder, path)

    printed = io.StringIO()
    with at_phases(copy), redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        if cold:
            patch.setenv(*WORKERS_COLD)
        returned = main(["train", *overrides, *places(folder)])
    assert returned == status, printed.getvalue()[-3000:]
    assert all(path.exists() for path in keep), f"the run never came to one of {list(keep.values())}"
    return printed.getvalue()


def killed(folder: Path, overrides: Sequence[str], moment: Moment, delay: float, cold: bool = True) -> None:
    """Run in a process of its own, to a death by SIGKILL `delay` seconds after a moment, which must come."""
    command = [sys.executable, str(HERE / "dying.py"), *map(str, moment), str(delay), "train"]
    done = subprocess.run(
        [*command, *overrides, *places(folder)],
        env={**os.environ, **dict([WORKERS_COLD] if cold else [])},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"


def places(folder: Path) -> list[str]:
    """Where a run lives."""
    return [f"run.dir={folder}", f"cluster.address={cluster()}"]


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def steps(folder: Path, stage: str) -> list[dict[str, Any]]:
    """The metrics of a stage, step by step."""
    return [row for row in lines(folder / "metrics.jsonl") if row["stage"] == stage]


def weights(folder: Path, stage: str) -> bytes:
    """The weights that a stage exported."""
    return (folder / "stages" / stage / "model" / "model.safetensors").read_bytes()
