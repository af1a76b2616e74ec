"""Stacks of actors that are stuck, on real Ray."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import ray

from raylign.telemetry.logs import redirect_output
from raylign.telemetry.stacks import dump_stacks

pytestmark = pytest.mark.ray


class Stuck:
    def __init__(self, log: str) -> None:
        redirect_output(log)

    def ready(self) -> bool:
        return True

    def wait_for_nobody(self) -> None:
        time.sleep(600)


def test_a_stuck_actor_tells_where(ray_session: None, tmp_path: Path) -> None:
    log = tmp_path / "stuck.log"
    actor = ray.remote(Stuck).options(num_cpus=0).remote(str(log))
    try:
        ray.get(actor.ready.remote())
        actor.wait_for_nobody.remote()
        deadline = time.monotonic() + 60
        while "wait_for_nobody" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            asked = dump_stacks()
            assert any(line.startswith("Stuck (pid ") for line in asked)
            time.sleep(0.2)
    finally:
        ray.kill(actor)
