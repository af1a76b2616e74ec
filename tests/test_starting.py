"""Roles of one device start one after the other, engines first; roles with devices of their own side by side."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from raylign.actors.remote import in_order
from raylign.actors.rollout.engine import EngineSpec
from raylign.actors.rollout.pool import VllmRolloutPool
from raylign.config.resolve import Run
from raylign.config.schema import ModelConfig, RolloutConfig
from raylign.errors import EngineDeadError
from raylign.plan import Plan, Role
from raylign.recipes.stages.rl import Rl
from raylign.records import Prompt


class Device:
    """Remembers who was starting together."""

    def __init__(self) -> None:
        self.now: set[str] = set()
        self.order: list[str] = []
        self.together = 1

    def start(self, name: str) -> Any:
        async def run(*args: Any, **named: Any) -> Any:
            self.now.add(name)
            self.order.append(name)
            self.together = max(self.together, len(self.now))
            await asyncio.sleep(0.01)
            self.now.remove(name)
            return name

        return run


@pytest.mark.parametrize("shared", [True, False])
def test_who_shares_a_device_waits_for_the_one_before(shared: bool) -> None:
    device, names = Device(), ["engine", "rank", "frozen"]
    started = asyncio.run(in_order([device.start(name) for name in names], shared))
    assert started == device.order == names and device.together == (1 if shared else 3)


class Context:
    """The starts of a run, and nothing behind them."""

    def __init__(self, run: Run, device: Device, shared: bool) -> None:
        self.run, self.cfg, self.tokenizer, self.template = run, run.config, None, None
        self.roles = type("Roles", (), {"shared": shared})()
        for name in ("rollouts", "rewards", "learner", "critic", "frozen"):
            setattr(self, name, device.start(name))
        self.prompts = type("Prompts", (), {"train": [Prompt(id="p", messages=(), token_ids=np.zeros(1, np.int32))]})()

    def shaper(self, stage: str) -> None:
        return None

    async def auditor(self) -> None:
        return None


@pytest.mark.parametrize("shared", [True, False])
def test_a_stage_starts_engines_then_ranks_then_frozen_models(shared: bool) -> None:
    from raylign.config.compose import compose

    device, run = Device(), compose(["recipe=grpo", "scale=tiny", "variant=ppo"])
    asyncio.run(Rl(Rl.Config(), "rl")._parts(Context(run, device, shared)))  # type: ignore[arg-type]
    assert device.order == ["rollouts", "rewards", "learner", "critic", "frozen"]
    assert (device.together == 1) == shared


def test_shares_of_a_gpu_are_shared_devices() -> None:
    def plan(gpus: float) -> Plan:
        return Plan(roles=(Role(name="learner", actors=2, cpus=1, gpus=gpus),))

    assert plan(0.4).shared and not plan(0).shared and not plan(1).shared


def test_an_engine_that_shares_takes_the_bytes_of_the_plan() -> None:
    model = ModelConfig(dtype="bfloat16", max_context=256)
    for gpus, expected in ((0.4, 7 << 30), (0.0, 2 << 30)):
        rollout = RolloutConfig(gpus=gpus, kv_cache_gb=2.0)
        pool = VllmRolloutPool(rollout, model, "m", log_dir="logs")
        pool.share_device(7 << 30, Device().start("room"))
        assert [handle.spec.engine.kv_cache_bytes for handle in pool._handles] == [expected]
    assert EngineSpec.of(RolloutConfig(gpus=1.0), model, "m").kv_cache_bytes == 0, "vLLM measures"


def test_room_is_made_before_an_engine_is_rebuilt_and_not_before_its_first_start() -> None:
    log = list[str]()

    class Actor:
        def __init__(self, dies: bool) -> None:
            async def start() -> None:
                log.append("start")
                if dies:
                    raise EngineDeadError("out of memory")

            self.start = type("Method", (), {"remote": staticmethod(start)})()

    pool = VllmRolloutPool(RolloutConfig(gpus=0.4), ModelConfig(max_context=256), "m", log_dir="logs")
    handle = pool._handles[0]

    async def room() -> None:
        log.append("room")

    pool.share_device(1, room)
    handle._create = lambda: Actor(dies="start" not in log)  # type: ignore[method-assign]
    handle._kill = lambda: None  # type: ignore[method-assign]
    asyncio.run(handle.ready())
    assert log == ["start", "room", "start"]
