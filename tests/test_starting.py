"""Roles of one device start one after the other, engines first; roles with devices of their own side by side."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raylign.actors.rollout.engine import EngineSpec
from raylign.actors.starting import in_order
from raylign.config.schema import ModelConfig, RolloutConfig
from raylign.plan import Plan, Role
from raylign.recipes.stages.rl import Rl


class Device:
    """Remembers who was starting together."""

    def __init__(self) -> None:
        self.now: set[str] = set()
        self.order: list[str] = []
        self.together = 1

    def start(self, name: str) -> Any:
        async def run(*args: Any) -> Any:
            self.now.add(name)
            self.order.append(name)
            self.together = max(self.together, len(self.now))
            await asyncio.sleep(0.01)
            self.now.remove(name)
            return name

        return run


@pytest.mark.parametrize("shared", [True, False])
def test_who_shares_a_device_waits_for_the_one_before(shared: bool) -> None:
    device, names = Device(), ["engine", "rank", "scorer"]
    found = asyncio.run(in_order([device.start(name) for name in names], shared))
    assert found == device.order == names and device.together == (1 if shared else 3)


class Context:
    """The starts of a run, and nothing behind them."""

    def __init__(self, cfg: Any, device: Device, shared: bool) -> None:
        self.cfg, self.shared, self.tokenizer = cfg, shared, None
        for name in ("rollouts", "rewards", "learner", "critic", "scorers"):
            setattr(self, name, device.start(name))
        self.prompts = type("Prompts", (), {"train": [object()]})()

    def part(self, key: str, *args: Any, **named: Any) -> Any:
        return type("Part", (), {"needs": frozenset({"value", "ref_logprob"})})()

    def shaper(self, node: Any) -> None:
        return None


@pytest.mark.parametrize("shared", [True, False])
def test_a_stage_starts_engines_then_ranks_then_scorers(shared: bool) -> None:
    from raylign.config.compose import compose

    device, cfg = Device(), compose(["recipe=grpo", "scale=tiny"]).config
    asyncio.run(Rl(Rl.Config(), "rl")._parts(Context(cfg, device, shared)))  # type: ignore[arg-type]
    assert device.order == ["rollouts", "rewards", "learner", "critic", "scorers"]
    assert (device.together == 1) == shared


def test_shares_of_a_gpu_are_shared_devices() -> None:
    def plan(gpus: float) -> Plan:
        return Plan(roles=(Role(name="learner", actors=2, cpus=1, gpus=gpus),))

    assert plan(0.4).shared and not plan(0).shared and not plan(1).shared


def test_an_engine_that_shares_takes_the_bytes_of_the_plan() -> None:
    model = ModelConfig(dtype="bfloat16", max_context=256)
    assert EngineSpec.of(RolloutConfig(gpus=0.4), model, "m", 7 << 30).kv_cache_bytes == 7 << 30
    assert EngineSpec.of(RolloutConfig(gpus=1.0), model, "m").kv_cache_bytes == 0, "vLLM measures"
    assert EngineSpec.of(RolloutConfig(gpus=0.0, kv_cache_gb=2.0), model, "m").kv_cache_bytes == 2 << 30
