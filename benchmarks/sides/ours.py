"""Our side of a comparison: a real `raylign train`, watched from outside."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import psutil


def train(overrides: list[str], folder: Path, timeout_s: float = 900.0) -> list[dict[str, Any]]:
    """Run the command line and return the metrics of every RL step with ``cpu_s``, the process tree's CPU seconds.

    CPU seconds of step k: between the appearance of the lines of steps k - 1 and k in metrics.jsonl, all processes
    (driver, Ray's own, engines, learners, reward workers) together. Raises RuntimeError when the run fails.
    """
    command = [sys.executable, "-m", "raylign.cli", "train", *overrides, f"run.dir={folder}", "telemetry.progress=none"]
    with (folder.parent / f"{folder.name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        steps, before, deadline = [], 0.0, time.monotonic() + timeout_s
        while process.poll() is None and time.monotonic() < deadline:
            lines = _lines(folder / "metrics.jsonl")
            if len(lines) > len(steps):
                spent = tree_cpu(process.pid)
                steps += [{**line, "cpu_s": spent - before} for line in lines[len(steps) :]]
                before = spent
            time.sleep(0.005)
        if process.poll() is None:
            process.kill()
    if process.returncode != 0:
        raise RuntimeError(f"raylign train failed: see {folder.parent / folder.name}.log")
    return [step for step in steps if step["stage"] == "rl"]


def tree_cpu(pid: int) -> float:
    """User and system seconds of a process and all its living descendants."""
    total = 0.0
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
    except psutil.NoSuchProcess:
        return total
    return total


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [orjson.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
