"""What asking a judge costs: throughput against concurrency, and what the cache takes off a run's questions.

make bench NAME=judge_pool                        a scripted judge that takes 50 ms, seconds
make bench NAME=judge_pool ARGS="--served"        also the tiny model on real Ray and vLLM, two minutes
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import environment, median, refuse_under_load, write
from raylign.actors.judge.client import Judge
from raylign.actors.judge.scripted import Scripted

SCHEMA = {"type": "object", "properties": {"answer": {"type": "boolean"}}, "required": ["answer"]}
CONCURRENCY = (1, 4, 16, 64, 256)
QUESTIONS = 1024
TAKES_S = 0.05


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write outputs/bench/judge_pool.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--served", action="store_true", help="also a tiny model served by the run's own actors")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--force", action="store_true", help="measure on a busy machine, too")
    parsed = parser.parse_args(arguments)
    results: dict[str, Any] = {"environment": environment()}
    refuse_under_load(force=parsed.force)
    results["scripted, 50 ms"] = [scripted(limit, parsed.repeats) for limit in CONCURRENCY]
    results["overhead"] = overhead()
    results["cache"] = [cached(share) for share in (0.0, 0.5, 0.9)]
    if parsed.served:
        results["served tiny model"] = served()
    write("judge_pool", results)
    return 0


def scripted(concurrency: int, repeats: int) -> dict[str, float]:
    """Answers a second of a judge that takes 50 ms, beside what the concurrency allows at best."""
    count = min(QUESTIONS, 40 * concurrency)

    async def measure() -> float:
        judge = _judge(Scripted.of(_slow), concurrency)
        started = time.perf_counter()
        await asyncio.gather(*(_ask(judge, number) for number in range(count)))
        return count / (time.perf_counter() - started)

    rates = [asyncio.run(measure()) for _ in range(repeats)]
    limit = concurrency / TAKES_S
    return {"concurrency": concurrency, "per_second": median(rates), "limit": limit, "share": median(rates) / limit}


def overhead(count: int = 5000) -> dict[str, float]:
    """Microseconds of our own per fresh answer and per hit, with a judge that takes no time."""

    async def measure() -> tuple[float, float]:
        judge = _judge(Scripted.of(_quick), 64)
        laps = []
        for _ in range(2):  # the second time every question is known
            started = time.perf_counter()
            for number in range(count):
                await _ask(judge, number)
            laps.append((time.perf_counter() - started) / count * 1e6)
        return laps[0], laps[1]

    fresh, hit = asyncio.run(measure())
    return {"fresh_us": fresh, "hit_us": hit}


def cached(repeated: float, count: int = 2000) -> dict[str, float]:
    """Calls that the cache saves where a share of the questions has been asked before, also by another process."""
    rng = np.random.default_rng(0)
    fresh = max(1, round(count * (1 - repeated)))
    numbers = [*range(fresh), *rng.integers(fresh, size=count - fresh).tolist()]

    async def measure(folder: str) -> Judge:
        judge = _judge(Scripted.of(_quick), 64, folder)
        await asyncio.gather(*(_ask(judge, int(number)) for number in numbers))
        return judge

    with tempfile.TemporaryDirectory() as folder:
        first, again = (asyncio.run(measure(folder)) for _ in range(2))
    return {
        "asked": count,
        "repeated": repeated,
        "hit_rate": first.counts.hits / count,
        "calls": first.counts.calls,
        "calls_after_restart": again.counts.calls,
    }


def served(count: int = 256) -> list[dict[str, float]]:
    """Answers a second of the tiny model, constrained to JSON, in one actor."""
    import ray

    from raylign.actors.judge.group import JudgeGroup
    from raylign.actors.judge.served import Served
    from raylign.config.schema import JudgeConfig, TinyModel
    from raylign.models.tiny import build_tiny_model

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)

    async def measure() -> list[dict[str, float]]:
        config = JudgeConfig(gpus=0, max_context=256, max_sequences=128)
        with tempfile.TemporaryDirectory() as logs:
            group = JudgeGroup("bench", config, str(build_tiny_model(TinyModel())), dtype="float32", log_dir=Path(logs))
            await group.start()
            rows = []
            for limit in (1, 8, 64):
                judge = _judge(Served(Served.Config(name="bench")), limit)
                started = time.perf_counter()
                await asyncio.gather(*(_ask(judge, number + 10_000 * limit) for number in range(count)))
                rate = count / (time.perf_counter() - started)
                rows.append({"concurrency": limit, "per_second": rate, "tokens": judge.counts.tokens / count})
            await group.close()
        return rows

    figures = asyncio.run(measure())
    ray.shutdown()
    return figures


def _judge(model: Any, concurrency: int, cache_dir: str = "") -> Judge:
    node = {"_target_": "raylign.actors.judge.scripted.Scripted", "function": "raylign.actors.judge.scripted.echo"}
    config = Judge.Config(model=node, concurrency=concurrency, max_tokens=24, cache_dir=cache_dir)
    return Judge(config, model)


async def _ask(judge: Judge, number: int) -> bool:
    messages = ({"role": "user", "content": f"Is {number} even?"},)
    return (await judge.ask(messages, lambda value: bool(value["answer"]), SCHEMA)).value


async def _slow(messages: Any, sampling: Any, seed: int) -> str:
    await asyncio.sleep(TAKES_S)
    return _quick(messages, sampling, seed)


def _quick(messages: Any, sampling: Any, seed: int) -> str:
    return json.dumps({"answer": seed % 2 == 0})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
