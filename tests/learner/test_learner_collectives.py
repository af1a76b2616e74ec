"""How long ranks wait for each other: as long as any call may take, however short the start was to be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raylign.actors.learner.group import LearnerGroup
from raylign.actors.roles import Roles
from raylign.config.compose import compose
from raylign.config.schema import LearnerConfig, LoraConfig


def test_collectives_wait_longer_than_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    async def call(self: Any, method: str, *args: Any, deadline: float) -> list[Any]:
        given.append((method, args, deadline))
        return [("node", "127.0.0.1", 1)] if method == "address" else [1]

    monkeypatch.setattr("raylign.actors.learner.ranks.RankGroup.spawn", lambda *args: None)
    monkeypatch.setattr("raylign.actors.learner.ranks.RankGroup.call", call)
    group = LearnerGroup(
        "learner", LearnerConfig(gpus=0), log_dir=tmp_path, options=lambda rank: {}, collectives_s=1234.0
    )
    asyncio.run(group.start(deadline=1.0))
    method, args, deadline = given[1]
    assert method == "start" and args[-1] == 1234.0 and deadline == 1.0


@pytest.mark.parametrize("role", ["learner", "critic"])
def test_the_ranks_of_a_run_wait_as_long_as_any_call_of_it(
    role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Exception):
        """Of a group that was to be made."""

    def group(*args: Any, **settings: Any) -> None:
        raise Asked(args[0], settings["collectives_s"])

    monkeypatch.setattr("raylign.actors.roles.LearnerGroup", group)
    run: Any = compose(["recipe=grpo", "scale=tiny", "variant=ppo", "run.deadline_s=777"])
    placement: Any = SimpleNamespace(plan=SimpleNamespace(shared=False), options=lambda role, index: {})
    named: Any = {"template": None, "model_of": str, "told": None}
    roles = Roles(run, placement, log_dir=tmp_path, start_model="m", **named)
    starting = (
        roles.critic("m", 1) if role == "critic" else roles.learner("m", run.config.learner.optim, 1, LoraConfig())
    )
    with pytest.raises(Asked) as caught:
        asyncio.run(starting)
    assert caught.value.args == (role, 777.0)


@pytest.mark.ray
@pytest.mark.deepspeed
def test_ranks_that_drift_apart_survive(ray_session: None, tmp_path: Path) -> None:
    """One rank comes 3 s late to a collective; the group's patience is 60 s, its start was given 40."""
    import os

    import ray

    from raylign.actors.learner.worker import LearnerWorker

    class Drifting(LearnerWorker):
        def meet(self, late: float) -> int:
            import time

            import torch

            time.sleep(late)
            torch.distributed.barrier()
            return os.getpid()

    actor = ray.remote(Drifting)
    ranks = [actor.options(num_cpus=0.5).remote(rank, 2, str(tmp_path / f"{rank}.log")) for rank in range(2)]
    try:
        _, _, port = ray.get(ranks[0].address.remote())
        ray.get([rank.start.remote("127.0.0.1", port, 1, False, 60.0) for rank in ranks], timeout=120)
        met = ray.get([rank.meet.remote(late) for rank, late in zip(ranks, (0.0, 3.0), strict=True)], timeout=60)
        assert len(set(met)) == 2
    finally:
        for rank in ranks:
            ray.kill(rank)
