"""Short runs of the command line in a process of their own, some of which are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

HERE = Path(__file__).parent


def train(folder: Path, overrides: Sequence[str], die: tuple[str, int, float] | None = None) -> None:
    """Run to the end, or to a death by SIGKILL `(phase, step, delay in seconds)` that must come."""
    command = [sys.executable, str(HERE / "dying.py"), *(map(str, die or ("never", -1, 0.0))), "train", *overrides]
    done = subprocess.run([*command, f"run.dir={folder}"], capture_output=True, text=True, timeout=280, check=False)
    expected = -signal.SIGKILL if die else 0
    assert done.returncode == expected, f"{die}: {done.stdout[-2000:]}\n{done.stderr[-3000:]}"


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def steps(folder: Path, stage: str) -> list[dict[str, Any]]:
    """The metrics of a stage, step by step."""
    return [row for row in lines(folder / "metrics.jsonl") if row["stage"] == stage]


def weights(folder: Path, stage: str) -> bytes:
    """The weights that a stage exported."""
    return (folder / "stages" / stage / "model" / "model.safetensors").read_bytes()
