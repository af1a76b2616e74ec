"""How long ranks wait for each other: as long as any call may take, however short the start was to be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from raylign.actors.learner.group import LearnerGroup
from raylign.config.schema import LearnerConfig


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
