"""How often a worker that does not start is made anew: never where the next one would fail the same way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError

from raylign.actors.rollout import worker_handle
from raylign.actors.rollout.worker_handle import WorkerHandle
from raylign.errors import EngineDeadError

RESTARTS = 3


@pytest.mark.parametrize(
    ("error", "made"),
    [
        (EngineDeadError("ValueError: head size 16 is not supported"), 1),
        (EngineDeadError("SafetensorError: Error while deserializing header"), 1),
        (EngineDeadError("RuntimeError: CUDA error: an illegal memory access"), RESTARTS + 1),
        (OutOfMemoryError("a page of Ray's text"), RESTARTS + 1),
        (ActorDiedError(), RESTARTS + 1),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_fails_by_content_is_started_once(
    error: Exception, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    created, ended = list[Any](), list[Any]()

    async def start() -> None:
        raise error

    def create() -> Any:
        created.append(SimpleNamespace(start=SimpleNamespace(remote=start)))
        return created[-1]

    spec: Any = SimpleNamespace(index=0, log_path="rollout-0.log")
    handle = WorkerHandle(spec, {}, max_restarts=RESTARTS, deadline_s=5.0)
    monkeypatch.setattr(handle, "_create", create)
    monkeypatch.setattr(worker_handle, "kill", ended.append)
    with pytest.raises(EngineDeadError, match=rf"worker 0 is dead after {made - 1} restarts .*its log: rollout-0\.log"):
        await handle.ready()
    assert len(created) == made and ended == created, "none is left behind"
