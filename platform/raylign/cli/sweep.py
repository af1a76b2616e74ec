"""Sweeps: Hydra's grammar expands the points; each is a process of its own, so that no engine state leaks over."""

from __future__ import annotations

import itertools
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from raylign.cli.options import say
from raylign.config.compose import compose
from raylign.errors import ConfigError, Problem, RaylignError
from raylign.run_folder import write_atomically
from raylign.telemetry.progress import duration
from raylign.telemetry.recorder import read_lines
from raylign.telemetry.table import table

SHOWN = ("eval/score", "reward/mean", "loss/policy", "loss/ce")
POLL_S = 0.2


@dataclass(slots=True, kw_only=True)
class Point:
    """One combination of the sweep."""

    overrides: list[str]  # all of them
    differs: list[str]  # those that the sweep varies
    folder: Path
    status: int | None = None
    seconds: float = 0.0


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of comma lists, ``choice(...)``, ``range(...)`` and ``glob(...)``. Raises ConfigError."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        return [list(point) for point in itertools.product(*(_choices(override) for override in parsed))]
    except HydraException as cause:
        why = str(cause).splitlines()[0]
        fix = "write key=a,b or key=choice(a,b) or key=range(1,4)"
        raise ConfigError([Problem(key="sweep", value=" ".join(overrides), why=why, fix=fix)]) from cause


def _choices(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise HydraException(f"{override.input_line} is a continuous sweep; there is no sampler for it")
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def sweep(overrides: Sequence[str], config_dir: str = "", jobs: int = 1) -> int:
    """Run all points, `jobs` at a time, and print a table; status 0 when every point ended with 0.

    All points are composed and checked before the first one starts.
    """
    base = Path("multirun") / time.strftime("%Y-%m-%d_%H-%M-%S")
    points = _points(overrides, base)
    problems = _problems(points, config_dir)
    if problems:
        raise ConfigError(problems)
    say(f"{len(points)} points, {jobs} at a time, in {base}")
    waiting, running = list(points), list[tuple[Point, subprocess.Popen[bytes], float]]()
    try:
        while waiting or running:
            while waiting and len(running) < max(1, jobs):
                running.append(_start(waiting.pop(0), config_dir))
            running = [entry for entry in running if not _ended(entry)]
            time.sleep(POLL_S)
    finally:
        for _, process, _ in running:  # Ctrl-C: every point saves itself
            process.terminate()
        for _, process, _ in running:
            process.wait()
    say(results(points))
    return 0 if all(point.status == 0 for point in points) else 1


def results(points: Sequence[Point]) -> str:
    """Point, exit status, time and last metrics as a table; also kept as results.json beside the points."""
    rows, kept = [], []
    for point in points:
        last: dict[str, float] = {}
        for line in read_lines(point.folder / "metrics.jsonl"):
            last |= {name: line[name] for name in SHOWN if isinstance(line.get(name), (int, float))}
        numbers = [f"{last[name]:.4g}" if name in last else "-" for name in SHOWN]
        status = "never started" if point.status is None else point.status
        rows.append([point.folder.name, " ".join(point.differs), status, duration(point.seconds), *numbers])
        kept.append(
            {"overrides": point.overrides, "folder": str(point.folder), "status": point.status, "metrics": last}
        )
    if points:
        points[0].folder.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(points[0].folder.parent / "results.json", orjson.dumps(kept, option=orjson.OPT_INDENT_2))
    return table(["point", "settings", "exit", "time", *SHOWN], rows)


def _points(overrides: Sequence[str], base: Path) -> list[Point]:
    combinations = expand(overrides)
    common = set.intersection(*(set(item) for item in combinations)) if len(combinations) > 1 else set()
    return [
        Point(overrides=item, differs=[text for text in item if text not in common], folder=base / f"{number:03d}")
        for number, item in enumerate(combinations)
    ]


def _problems(points: Sequence[Point], config_dir: str) -> list[Problem]:
    found: dict[tuple[str, str], Problem] = {}
    for point in points:
        try:
            compose(point.overrides, config_dir)
        except ConfigError as error:
            found |= {(problem.key, problem.value): problem for problem in error.problems}
    return list(found.values())


def _start(point: Point, config_dir: str) -> tuple[Point, subprocess.Popen[bytes], float]:
    point.folder.mkdir(parents=True, exist_ok=True)
    arguments = [*point.overrides, f"run.dir={point.folder}", "telemetry.progress=plain"]
    command = [sys.executable, "-m", "raylign.cli", "train", *arguments]
    command += ["--config-dir", config_dir] if config_dir else []
    say(f"[{point.folder.name}] {shlex.join(point.differs)}  (output: {point.folder}/output.log)")
    with (point.folder / "output.log").open("ab") as log:
        try:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        except OSError as cause:
            raise RaylignError(f"a point could not be started: {cause}") from cause
    return point, process, time.monotonic()


def _ended(entry: tuple[Point, subprocess.Popen[bytes], float]) -> bool:
    point, process, started = entry
    point.status, point.seconds = process.poll(), time.monotonic() - started
    if point.status is not None:
        say(f"[{point.folder.name}] exit {point.status} after {duration(point.seconds)}")
    return point.status is not None
