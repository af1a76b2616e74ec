"""One family through both halves of `benchmarks.families`: built, loaded, packed, published twice, sampled.

In a process of its own: vLLM makes the groups of experts only where no other engine came first.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.vllm
def test_experts_are_sampled_as_they_were_published() -> None:
    command = [sys.executable, "-m", "benchmarks.families", "qwen3_moe", "--workers", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line, total = done.stdout.strip().splitlines()[-2:]
    learner, sampler, after, verdict = line.split()[2:6]  # name and layout come first
    assert verdict == "right" and max(float(learner), float(sampler), float(after)) <= 1e-4, done.stdout
    assert total.startswith("1 families: 1 right (1 of them in vLLM's CPU build too")


def test_unknown_families_are_named() -> None:
    command = [sys.executable, "-m", "benchmarks.families", "llamma", "--no-engine"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "unknown: llamma; known: llama, mistral" in done.stderr
