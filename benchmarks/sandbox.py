"""Sandboxed programs per second and core, what the layers cost, and which solutions of MBPP+ pass their own tests.

``python -m benchmarks.sandbox [--force] [--repeats 5]``. No peer runs a comparable stack locally; the limit is a bare
``fork`` and ``exec`` of the same source in the same warm process, without any layer (``bare_fork``).

Reported per side, on one core that the parent and all processes share: programs per second of an empty program, and the
median milliseconds until its result. ``--solutions`` runs all solutions of MBPP+ (``--data``) instead and names those
that fail, and those of which some tests are too heavy for the limits.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import environment, interleave, median, refuse_under_load, write
from raylign.actors.reward.unit_tests import UnitTests
from raylign.actors.sandbox.contract import Ending, Program
from raylign.actors.sandbox.local import LocalSandbox
from raylign.actors.sandbox.settings import Namespaces, SandboxConfig
from raylign.data.readers import load_rows
from raylign.records import Prompt

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "mbpp_plus" / "MbppPlus.jsonl"
SOURCE = "def f(x):\n    return x + 1\nprint(f(1))"


def sandboxed(sandbox: LocalSandbox, count: int) -> float:
    """Programs per second, one after another."""
    started = time.perf_counter()
    for _ in range(count):
        ran = sandbox.run(Program(code=SOURCE))
        if ran.reason is not Ending.OK:
            raise RuntimeError(f"{ran.reason.value}: {ran.stderr}")
    return count / (time.perf_counter() - started)


def bare_fork(count: int) -> float:
    """The same source in a fork of this process, with a pipe for its output and nothing else."""
    started = time.perf_counter()
    for _ in range(count):
        read, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(write_end, 1)
            exec(compile(SOURCE.replace("print(f(1))", "import os\nos.write(1, b'2')"), "<bare>", "exec"), {})
            os._exit(0)
        os.close(write_end)
        os.read(read, 9)
        os.close(read)
        os.waitpid(child, 0)
    return count / (time.perf_counter() - started)


def speed(count: int, repeats: int) -> dict[str, Any]:
    """All sides on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # inherited by all processes
    figures: dict[str, Any] = {}
    for namespaces in Namespaces:
        sandbox = LocalSandbox(SandboxConfig(namespaces=namespaces))
        figures[f"layers_{namespaces.value}"] = list(sandbox.layers)
        rates, limits = interleave(lambda box=sandbox: sandboxed(box, count), lambda: bare_fork(count), repeats)  # type: ignore[misc]
        figures[f"programs_per_s_core_{namespaces.value}"] = round(median(rates), 1)
        figures[f"ms_per_program_{namespaces.value}"] = round(1000 / median(rates), 2)
        figures["bare_fork_per_s_core"] = round(median(limits), 1)
        sandbox.close()
    os.sched_setaffinity(0, cores)
    return figures


def solutions(path: Path) -> dict[str, Any]:
    """Every solution against its own tests, and a function that answers nothing against the same."""
    reward = UnitTests(UnitTests.Config())
    counts: dict[str, Any] = {"rows": 0, "pass": 0, "wrong_ones_fail": 0, "failing": {}, "shortened": {}}
    for row in load_rows(path)[1]:
        prompt = Prompt(
            id=str(row.meta["task_id"]),
            messages=row.messages,
            token_ids=np.zeros(1, np.int32),
            answer=row.answer,
            meta=row.meta,
        )
        counts["rows"] += 1
        try:
            verdict = reward.judge(prompt, str(reward.gold(prompt)))
            counts["wrong_ones_fail"] += reward.judge(prompt, str(reward.wrong(prompt))).score == 0.0
        except ValueError as error:
            counts["failing"][prompt.id] = str(error)
            continue
        counts["pass"] += verdict.score == 1.0
        if verdict.score < 1.0:
            counts["failing"][prompt.id] = str(dict(verdict.details))
        all_tests = len(row.meta["base_input"]) + len(row.meta["plus_input"])
        if verdict.details["tests"] < all_tests:
            counts["shortened"][prompt.id] = f"{verdict.details['tests']} of {all_tests} tests"
    return counts


def main() -> None:
    """Measure, print, write ``outputs/bench/sandbox.json`` (or ``sandbox_solutions.json``)."""
    arguments = argparse.ArgumentParser(description="Sandboxed programs per second and core.")
    arguments.add_argument("--force", action="store_true", help="measure on a busy machine, too")
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--programs", type=int, default=200)
    arguments.add_argument("--solutions", action="store_true")
    arguments.add_argument("--data", type=Path, default=DATA)
    given = arguments.parse_args()
    where = environment()
    if given.solutions:
        write("sandbox_solutions", {**solutions(given.data), "environment": where})
        return
    refuse_under_load(0.5, given.force)
    write("sandbox", {**speed(given.programs, given.repeats), "environment": where})


if __name__ == "__main__":
    main()
