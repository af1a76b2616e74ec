"""Engines of several ranks: each starts inside the run's placement group, and every sync is proven on all shards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raylign.actors.rollout.engine import EngineSpec
from raylign.actors.rollout.pool import VllmRolloutPool
from raylign.config.schema import ModelConfig, RolloutConfig
from raylign.placement import Placement
from raylign.plan import Plan, Role


@pytest.mark.vllm
@pytest.mark.parametrize(("ranks", "backend"), [(1, "uni"), (2, "mp")])
def test_ranks_are_processes_of_the_engines_own(spec: EngineSpec, ranks: int, backend: str) -> None:
    """Left to itself vLLM chooses Ray inside a placement group, and then refuses a bundle of more than one GPU."""
    from raylign.actors.rollout.vllm_io import engine_fields

    for gpu in (False, True):
        fields = engine_fields(replace(spec, tensor_parallel=ranks, gpu=gpu))
        assert fields["distributed_executor_backend"] == backend


@pytest.mark.ray
@pytest.mark.vllm
def test_two_ranks_prove_every_sync(
    ray_session: None, tiny_model: Path, tmp_path: Path, run: Callable[..., Any], reference: Any
) -> None:
    plan = Plan(roles=(Role(name="rollout", actors=1, cpus=1, gpus=0),))
    placement = Placement.create(plan, "test-tp", 30)
    config = RolloutConfig(gpus=0.0, max_sequences=8, kv_cache_gb=0.25, tensor_parallel=2, max_restarts=0)
    pool = VllmRolloutPool(
        config,
        ModelConfig(dtype="float32", max_context=256),
        str(tiny_model),
        log_dir=tmp_path,
        options=lambda index: placement.options("rollout", index),
        deadline_s=200.0,
    )

    async def syncs() -> None:
        await pool.start()
        for version in range(3):
            report = await pool.publish((reference.perturbed(version) if version else reference).update(version))
            assert report["gap_max"] <= 1e-5
        assert pool.restarts == 0

    try:
        run(asyncio.wait_for(syncs(), 200))
    finally:
        run(pool.close())
        placement.remove()
