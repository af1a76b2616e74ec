"""Runs of the command line for experiments: real Ray, vLLM and DeepSpeed, one run with many stages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.experiments.report import ROOT, commit

Metrics = dict[str, float]
Result = TypeVar("Result")
AT_ONCE = 2  # runs side by side: in a synchronous run engine and learner take turns, so one run keeps one core busy


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run folder and what its stages ended with."""

    folder: Path
    metrics: Metrics  # "<stage>/<metric>"

    def model(self, stage: str) -> str:
        """The model that a stage exported."""
        return str(self.folder / "stages" / stage / "model")

    def steps(self, stage: str) -> list[Metrics]:
        """The metrics of every step of a stage."""
        lines = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return [line for line in lines if line["stage"] == stage]

    def rollouts(self, stage: str) -> list[dict[str, Any]]:
        """The recorded trajectories of a stage."""
        paths = sorted((self.folder / "rollouts").glob("step_*.jsonl"))
        lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        return [line for line in lines if line["stage"] == stage]


def run_recipe(recipe: str, folder: Path, overrides: Sequence[str]) -> FinishedRun:
    """``raylign train`` at scale=tiny. Raises RuntimeError with the end of its output when it fails.

    A folder with a finished run of the same command on the same commit (and on an unchanged tree) is read, not
    repeated; anything else in its place is removed.
    """
    command = [sys.executable, "-m", "raylign.cli", "train", f"recipe={recipe}", "scale=tiny", *overrides]
    command += [f"run.dir={folder}", "telemetry.progress=plain", "run.save_every=0"]
    if not _is_run_of(folder, command[4:]):
        shutil.rmtree(folder, ignore_errors=True)
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    finished = json.loads((folder / "finished.json").read_text())
    return FinishedRun(folder, finished["metrics"])


def _is_run_of(folder: Path, overrides: Sequence[str]) -> bool:
    """Whether the folder holds a finished run of these overrides on the commit that is checked out, unchanged."""
    if not (folder / "finished.json").exists():
        return False
    git = json.loads((folder / "environment.json").read_text())["git"]
    same = (folder / "overrides.txt").read_text().splitlines() == list(overrides)
    return same and not git["changed"] and git["sha"] == commit()


def together(jobs: Sequence[Callable[[], Result]], at_once: int = AT_ONCE) -> list[Result]:
    """The results of all jobs in their order, `at_once` at a time. Raises what the first failing one raises."""
    with ThreadPoolExecutor(at_once) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


def stage(name: str, target: str, **fields: Any) -> str:
    """An override that adds a stage at the end of those that there are.

    Example: ``stage("after", "evaluate.Evaluate", samples=4, greedy=False)``
    """
    return f"stages.{name}={_grammar({'_target_': f'raylign.recipes.stages.{target}', **fields})}"


def _grammar(value: Any) -> str:
    """A value in the grammar of Hydra's command line."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_grammar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_grammar, value)) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value) if isinstance(value, (int, float)) else "'" + str(value) + "'"
