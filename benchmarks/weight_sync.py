"""How long new weights take until their log-probs are proven live: about 10 MB, warm, in-process and through Ray.

    python -m benchmarks.weight_sync [--repeats 20] [--force] [--no-ray]

In-process is what a rollout worker does with a buffer that it holds: pause, load, commit, verify by a probe, resume.
Through Ray adds what a run pays besides: object store, remote call, fetch. The physical limit is one memcpy.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

from raylign.actor_env import actor_env

os.environ.update(actor_env(1, gpu=False))  # before torch and vLLM are imported

import numpy as np

from benchmarks import harness
from raylign.actors.rollout.engine import Engine, EngineSpec, make_engine
from raylign.config.schema import EngineKind, ModelConfig, RolloutConfig, TinyModel
from raylign.contracts import WeightUpdate
from raylign.models.tiny import build_tiny_model
from raylign.weights import digests_of

SHAPE = TinyModel(hidden_size=192, layers=6, heads=6, kv_heads=2, head_dim=32, intermediate_size=512, context=512)
PROBE = 64  # tokens
TARGET_MS = 60.0
PHASES = ("pause", "load", "commit", "verify", "resume")


class Policies:
    """Successive versions of one model, as a learner would publish them."""

    def __init__(self, path: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(path, dtype="float32").eval()
        self._probe = np.random.default_rng(0).integers(6, 200, PROBE).astype(np.int32)
        self.version = 0

    def next(self) -> WeightUpdate:
        """Other weights, and the log-probs of the probe under them."""
        torch, layout, parts, offset = self._torch, [], [], 0
        self.version += 1
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                parameter.mul_(1 + 0.05 * torch.randn(parameter.shape))
                array = parameter.numpy().copy()
                layout.append((name, "float32", tuple(array.shape), offset))
                parts.append(array.reshape(-1).view(np.uint8))
                offset += array.nbytes
            logits = self._model(torch.from_numpy(self._probe[None].astype(np.int64))).logits[0, :-1]
            chosen = torch.from_numpy(self._probe[1:].astype(np.int64))[:, None]
            logprobs = logits.log_softmax(-1).gather(-1, chosen)[:, 0].numpy()
        buffer = np.concatenate(parts)
        return WeightUpdate(
            version=self.version,
            buffer=buffer,
            layout=tuple(layout),
            digests=digests_of(buffer, tuple(layout)),
            probe_ids=self._probe[None],
            probe_logprobs=logprobs[None],
        )


async def in_process(path: str, policies: Policies, repeats: int) -> dict[str, Any]:
    """Milliseconds of each phase and of the whole, median over warm updates."""
    spec = EngineSpec(model_path=path, dtype="float32", max_context=512, max_sequences=256)
    engine = make_engine(EngineKind.in_process, spec)
    await engine.start()
    rows: list[dict[str, float]] = []
    gaps: list[float] = []
    for _ in range(repeats + 2):  # the first two are cold
        update = policies.next()
        phases: dict[str, float] = {}
        started = time.perf_counter()
        for name, step in _steps(engine, update):
            begun = time.perf_counter()
            result = await step()
            phases[name] = 1e3 * (time.perf_counter() - begun)
            if name == "verify":
                gaps.append(result.max)
        rows.append(phases | {"total": 1e3 * (time.perf_counter() - started)})
    await engine.close()
    warm = {f"{name}_ms": harness.median([row[name] for row in rows[2:]]) for name in (*PHASES, "total")}
    return warm | {
        "cold_ms": rows[0]["total"],
        "slowest_ms": max(row["total"] for row in rows[2:]),
        "gap_max": max(gaps),
    }


def _steps(engine: Engine, update: WeightUpdate) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
    return [
        ("pause", engine.pause),
        ("load", lambda: engine.load(update.layout, update.buffer)),
        ("commit", lambda: engine.commit(update.version)),
        ("verify", lambda: engine.verify(update)),
        ("resume", engine.resume),
    ]


async def through_ray(path: str, policies: Policies, repeats: int) -> dict[str, float]:
    """Milliseconds from a buffer in the learner's process to the answer of the pool's `publish`."""
    from dataclasses import replace

    import ray

    from raylign.actors.rollout.pool import VllmRolloutPool

    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=300_000_000, log_to_driver=False)
    config = RolloutConfig(workers=1, gpus=0.0)
    model = ModelConfig(dtype="float32", max_context=512)
    with tempfile.TemporaryDirectory() as logs:
        pool = VllmRolloutPool(config, model, path, log_dir=logs, options=lambda index: {"num_cpus": 1})
        await pool.start()
        totals, worker = [], []
        for _ in range(repeats + 2):
            update = policies.next()
            started = time.perf_counter()
            phases = await pool.publish(replace(update, buffer=ray.put(update.buffer)))
            totals.append(1e3 * (time.perf_counter() - started))
            worker.append(1e3 * sum(phases[name] for name in (*PHASES, "fetch")))
        await pool.close()
    ray.shutdown()
    return {"total_ms": harness.median(totals[2:]), "of_which_worker_ms": harness.median(worker[2:])}


def memcpy_ms(size: int, repeats: int) -> float:
    """One copy of the same number of bytes into fresh memory that has been touched before."""
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        np.copyto(target, source)
        times.append(1e3 * (time.perf_counter() - begun))
    return harness.median(times)


def main() -> None:
    """Measure, compare with the target, write outputs/bench/weight_sync.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--force", action="store_true", help="measure on a busy machine, too")
    parser.add_argument("--no-ray", action="store_true", help="in-process only")
    arguments = parser.parse_args()
    environment = harness.environment()
    harness.refuse_under_load(force=arguments.force)
    path = str(build_tiny_model(SHAPE))
    policies = Policies(path)
    size = len(policies.next().buffer)
    local = asyncio.run(in_process(path, policies, arguments.repeats))
    copy = memcpy_ms(size, arguments.repeats)
    result: dict[str, Any] = {
        "environment": environment,
        "megabytes": size / 1e6,
        "in_process": local,
        "memcpy_ms": copy,
        "memcpy_share": copy / local["total_ms"],  # 1.0 would be the physical limit
        "target_ms": TARGET_MS,
        "reached": local["total_ms"] <= TARGET_MS,
    }
    if not arguments.no_ray:
        result["through_ray"] = asyncio.run(through_ray(path, policies, arguments.repeats))
    harness.write("weight_sync", result)


if __name__ == "__main__":
    main()
