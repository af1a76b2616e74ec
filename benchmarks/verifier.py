"""Isolated maths verdicts per second and core.

``python -m benchmarks.verifier [--force] [--repeats 5]``. Target: at least 150 verdicts a second on one core, worker
and child together. The rows are MATH-500 (``--data``): for each problem the gold answer respelled, another problem's
answer, a wrong number, and text without a box, each at the end of a chain of thought of about 2,000 characters.

Reported: ``isolated`` (persistent killable child, as a run uses it), ``in_process`` (the same function without
isolation: the limit), ``fresh_child`` (a new child for every verdict), and ``pool`` (through Ray, 2 workers).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.harness import environment, interleave, median, refuse_under_load, write
from raylign.actors.reward.boxed import BoxedMath
from raylign.actors.reward.expressions import read
from raylign.actors.reward.isolate import IsolatedFunction
from raylign.actors.reward.marking import equal
from raylign.actors.reward.outcome import Failed, Item
from raylign.actors.reward.pools import RewardPools
from raylign.actors.reward.response import trajectory_of
from raylign.config.schema import RewardConfig
from raylign.data.readers import load_rows
from raylign.records import Prompt

TARGET = 150.0
NODE = {"_target_": "raylign.actors.reward.boxed.BoxedMath"}
DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "math" / "math500.json"
THOUGHT = "We expand $(a+b)^2 = a^2 + 2ab + b^2$ and collect the terms. " * 32


def items(path: Path, count: int) -> list[Item]:
    """`count` verdicts to give, four kinds in turn."""
    rows = list(load_rows(path)[1])
    items: list[Item] = []
    for index in range(count):
        number = index // 4 % len(rows)
        gold = str(rows[number].answer)
        other = str(rows[(number * 7 + 3) % len(rows)].answer)
        respelled = gold.replace("\\frac", "\\dfrac").replace(" ", "\\, ") + " "
        ends = (f"\\boxed{{ {respelled}.0}}", f"\\boxed{{{other}}}", "\\boxed{-17.5}", "That is all.")
        if not gold.isdigit():
            ends = (f"\\boxed{{ {respelled}}}", *ends[1:])
        prompt = Prompt(id=f"m{number}", messages=(), token_ids=np.zeros(200, np.int32), answer=gold)
        items.append((prompt, (trajectory_of(prompt, THOUGHT + ends[index % 4]),)))
    return items


def cpu_seconds(function: IsolatedFunction) -> float:
    """CPU time of this process and of the function's child so far."""
    child = psutil.Process(function.pids[1]).cpu_times()
    return time.process_time() + child.user + child.system


def isolated(work: Sequence[Item], function: IsolatedFunction, fresh: bool = False) -> float:
    """Verdicts per second through the child; fresh: it is killed after each."""
    started = time.perf_counter()
    for item in work:
        outcome = function.score(item, 10.0)
        if isinstance(outcome, Failed):
            raise RuntimeError(outcome.reason)
        if fresh:
            function.renew()
    return len(work) / (time.perf_counter() - started)


def in_process(work: Sequence[Item], function: BoxedMath) -> float:
    """Verdicts per second without isolation; the caches start empty, as in a new child."""
    read.cache_clear()
    equal.cache_clear()
    started = time.perf_counter()
    for prompt, trajectories in work:
        function.score(prompt, trajectories)
    return len(work) / (time.perf_counter() - started)


async def pool(work: Sequence[Item], workers: int) -> float:
    """Verdicts per second through Ray, all submitted at once."""
    configs = {"math": RewardConfig(fn=NODE, workers=workers)}
    with tempfile.TemporaryDirectory() as logs:
        pools = RewardPools(configs, log_dir=logs, options=lambda name, index: {"num_cpus": 0.5})
        await pools.start()
        try:
            started = time.perf_counter()
            await asyncio.gather(*(pools.score(prompt, trajectories[0]) for prompt, trajectories in work))
            return len(work) / (time.perf_counter() - started)
        finally:
            await pools.close()


def on_one_core(work: Sequence[Item], repeats: int) -> dict[str, Any]:
    """The three single-core figures; this process and its children are pinned to one core meanwhile."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # inherited by the children
    direct = BoxedMath(BoxedMath.Config())

    per_cpu_second: list[float] = []

    def with_child() -> float:
        child = IsolatedFunction(NODE, "bench")  # a new one: its cache must not know the answers
        try:
            before = cpu_seconds(child)
            rate = isolated(work, child)
            per_cpu_second.append(len(work) / (cpu_seconds(child) - before))
            return rate
        finally:
            child.close()

    rates, limits = interleave(with_child, lambda: in_process(work, direct), repeats)
    child = IsolatedFunction(NODE, "bench")
    fresh = isolated(work[:200], child, fresh=True)
    child.close()
    os.sched_setaffinity(0, cores)
    return {
        "isolated_per_s_core": round(median(rates), 1),
        "isolated_per_cpu_s": round(median(per_cpu_second), 1),  # the same where other work has its share of the core
        "isolated_runs": [round(rate, 1) for rate in rates],
        "in_process_per_s_core": round(median(limits), 1),
        "fresh_child_per_s_core": round(fresh, 1),
        "share_of_limit": round(median(rates) / median(limits), 3),
    }


def main() -> None:
    """Measure, print, write ``outputs/bench/verifier.json``."""
    arguments = argparse.ArgumentParser(description="Isolated maths verdicts per second and core.")
    arguments.add_argument("--force", action="store_true", help="measure on a busy machine, too")
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--items", type=int, default=2000)
    arguments.add_argument("--data", type=Path, default=DATA)
    given = arguments.parse_args()
    where = environment()
    refuse_under_load(0.5, given.force)
    work = items(given.data, given.items)
    result = on_one_core(work, given.repeats)

    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    result["pool_per_s_2_workers"] = round(asyncio.run(pool(work, 2)), 1)
    ray.shutdown()
    result |= {"items": len(work), "target": TARGET, "met": result["isolated_per_s_core"] >= TARGET}
    write("verifier", {**result, "environment": where})


if __name__ == "__main__":
    main()
