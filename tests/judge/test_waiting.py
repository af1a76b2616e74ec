"""Whom a question to a served judge waits for: a worker that is restarted, and nobody whom no restart brings back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from raylign.actors.judge import served, worker
from raylign.actors.judge.chat import Reply
from raylign.actors.judge.served import Served
from raylign.actors.judge.worker import JudgeSpec, JudgeWorker
from raylign.actors.rollout.engine import EngineSpec
from raylign.contracts import Sampling
from raylign.errors import EngineDeadError, JudgeUnavailable, LoadError, RequestError

pytestmark = pytest.mark.timeout(30)
MESSAGES = ({"role": "user", "content": "Is it?"},)
SAMPLING = Sampling(max_tokens=4)
FINE = Reply(text="yes", tokens=1, seconds=0.0)
UNFIT = LoadError("its model cannot be loaded: OSError: It looks like the config file is not a valid JSON file")


def handle(*answers: Any) -> Any:
    """What Ray gives of an actor, as far as it is asked here: each call has the next of these answers, the last for
    ever.
    """
    left = list(answers)

    async def complete(*_: Any) -> Reply:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    return SimpleNamespace(complete=SimpleNamespace(remote=complete))


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Sets what Ray lists at every look, the last for ever; the number of looks."""

    def use(*lists: dict[str, Any]) -> list[int]:
        looks = list[int]()

        def workers_of(judge: str) -> dict[str, Any]:
            looks.append(1)
            return dict(lists[min(len(looks), len(lists)) - 1])

        monkeypatch.setattr(served, "_workers_of", workers_of)
        monkeypatch.setattr(served, "PAUSE_S", 0.01)
        return looks

    return use


async def ask(patience_s: float = 300.0) -> Reply:
    return await Served(Served.Config(name="j", patience_s=patience_s)).complete(MESSAGES, SAMPLING, 0)


@pytest.mark.parametrize(
    "error", [ActorUnavailableError("restarting", b"x" * 16), ActorDiedError(), EngineDeadError("x")]
)
async def test_a_worker_that_is_restarted_is_waited_for(error: Exception, listing: Callable[..., Any]) -> None:
    listing({"judge/j/0": handle(error, error, FINE)})
    assert await ask() == FINE
    listing({"judge/j/0": handle(error)})
    with pytest.raises(JudgeUnavailable, match=r"judges\.j is gone: "):
        await ask(patience_s=0.05)


async def test_a_judge_without_a_restart_left_is_not_waited_for(listing: Callable[..., Any]) -> None:
    looks, started = listing({"judge/j/0": handle(EngineDeadError("no\n  room"))}, {}), time.monotonic()
    with pytest.raises(JudgeUnavailable, match=r"judges\.j is gone for good: no room; see logs/judge-j-\*\.log"):
        await ask()
    assert len(looks) == 2 and time.monotonic() - started < 5
    listing({})
    with pytest.raises(JudgeUnavailable, match="gone for good: no worker of that name"):
        await ask()


async def test_a_judge_whose_files_are_at_fault_is_not_waited_for(listing: Callable[..., Any]) -> None:
    started = time.monotonic()
    listing({"judge/j/0": handle(UNFIT), "judge/j/1": handle(UNFIT)})
    with pytest.raises(JudgeUnavailable, match="gone for good: its model cannot be loaded: OSError: It looks like"):
        await ask()
    listing({"judge/j/0": handle(UNFIT), "judge/j/1": handle(FINE)})
    one = Served(Served.Config(name="j"))
    for _ in range(3):
        assert await one.complete(MESSAGES, SAMPLING, 0) == FINE, "a worker that refuses all is asked no more"
    assert list(one._unfit) == ["judge/j/0"]
    listing({"judge/j/0": handle(UNFIT), "judge/j/1": handle(ActorDiedError(), FINE)})
    assert await ask() == FINE, "the other may come back"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RequestError("too\n long"), "refuses the request: too long"),
        (JudgeUnavailable("HTTP 401"), "no answer: HTTP 401"),
    ],
)
async def test_other_refusals_are_final(error: Exception, said: str, listing: Callable[..., Any]) -> None:
    listing({"judge/j/0": handle(error)})
    with pytest.raises(JudgeUnavailable, match=said):
        await ask()


def made(monkeypatch: pytest.MonkeyPatch, *causes: Exception) -> tuple[JudgeWorker, list[int], list[int]]:
    """A worker whose engine fails to start for these causes, one after the other; its loads, and its exits."""
    loads, exits = list[int](), list[int]()

    async def start() -> None:
        loads.append(1)
        raise causes[min(len(loads), len(causes)) - 1]

    monkeypatch.setattr(worker, "redirect_output", lambda path: None)
    monkeypatch.setattr(worker, "make_engine", lambda kind, spec: SimpleNamespace(start=start))
    monkeypatch.setattr(worker, "EXIT_DELAY_S", 0.0)
    monkeypatch.setattr(worker.os, "_exit", exits.append)
    engine = EngineSpec(model_path="m", dtype="float32", max_context=8, max_sequences=1)
    return JudgeWorker(JudgeSpec(log_path="", engine=engine)), loads, exits


async def test_a_worker_loads_unfit_files_once(monkeypatch: pytest.MonkeyPatch) -> None:
    unfit, loads, exits = made(monkeypatch, EngineDeadError("ValueError: head size 16 is not supported"))
    for _ in range(3):
        with pytest.raises(LoadError, match="its model cannot be loaded: ValueError: head size 16"):
            await unfit.complete(MESSAGES, SAMPLING, 0)
    assert len(loads) == 1 and not exits


async def test_a_load_that_may_pass_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for cause in (EngineDeadError("RuntimeError: out of memory"), OSError(5, "Input/output error")):
        short, loads, exits = made(monkeypatch, cause)
        with pytest.raises(EngineDeadError):
            await short.complete(MESSAGES, SAMPLING, 0)
        await asyncio.sleep(0.01)
        assert len(loads) == 1 and exits == [1], "Ray makes it anew, as often as judges.NAME.max_restarts says"
