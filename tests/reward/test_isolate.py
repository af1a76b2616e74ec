"""The killable child: nothing that a function does reaches the worker, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from raylign.actors.reward.isolate import IsolatedFunction
from raylign.actors.reward.outcome import Failed, FailureKind, Item, Outcome
from raylign.actors.reward.response import trajectory_of
from raylign.actors.reward.worker import RewardWorker
from raylign.errors import RewardError
from raylign.records import Prompt

NODE = {
    "_target_": "raylign.actors.reward.python.PythonFunction",
    "path": "hostile_rewards.act",
    "isolated": True,
}


def item(response: str) -> Item:
    prompt = Prompt(id="p", messages=(), token_ids=np.zeros(1, np.int32))
    return prompt, (trajectory_of(prompt, response),)


@pytest.fixture(scope="module")
def function() -> Iterator[IsolatedFunction]:
    isolated = IsolatedFunction(NODE, "rewards.test.fn")
    yield isolated
    isolated.close()


def score_of(outcome: Outcome) -> float:
    assert not isinstance(outcome, Failed), outcome
    return outcome[0].score


@pytest.mark.parametrize(
    ("response", "kind", "reason"),
    [
        ("hang", FailureKind.TIMEOUT, "timeout after 0.5 s"),
        ("exit", FailureKind.DIED, "ended its process"),
        ("segfault", FailureKind.DIED, "ended its process"),
        ("sysexit", FailureKind.ERROR, "SystemExit: 3"),
        ("raise the alarm", FailureKind.ERROR, "ValueError: the alarm"),
        ("nan", FailureKind.ERROR, "the score is nan"),
        ("inf", FailureKind.ERROR, "the score is inf"),
        ("text of no number", FailureKind.ERROR, "expected a number"),
    ],
)
def test_every_failure_is_an_outcome(function: IsolatedFunction, response: str, kind: FailureKind, reason: str) -> None:
    outcome = function.score(item(response), 0.5)
    assert isinstance(outcome, Failed) and outcome.kind is kind and reason in outcome.reason
    assert score_of(function.score(item("0.25"), 10.0)) == 0.25


def test_one_child_serves_many_and_a_new_one_follows_a_kill(function: IsolatedFunction) -> None:
    first = {score_of(function.score(item("pid"), 10.0)) for _ in range(20)}
    assert first == {float(function.pids[1])}
    before = function.restarts
    function.score(item("hang"), 0.2)
    assert {score_of(function.score(item("pid"), 10.0))}.isdisjoint(first)
    assert function.restarts == before + 1


def test_the_childs_own_children_die_with_it(function: IsolatedFunction, tmp_path: Path) -> None:
    assert isinstance(function.score(item(f"child {tmp_path / 'pid'}"), 1.0), Failed)
    pid = int((tmp_path / "pid").read_text())
    wait_until_gone(pid)


def test_a_dead_zygote_is_replaced() -> None:
    isolated = IsolatedFunction(NODE, "rewards.test.fn")
    zygote, child = isolated.pids
    os.kill(zygote, signal.SIGKILL)
    wait_until_gone(child)  # by its parent-death signal
    assert isinstance(isolated.score(item("1.0"), 10.0), Failed)
    assert score_of(isolated.score(item("1.0"), 10.0)) == 1.0
    pids = isolated.pids
    isolated.close()
    for pid in pids:
        wait_until_gone(pid)


def test_no_orphan_remains_when_the_worker_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from raylign.actors.reward.isolate import IsolatedFunction\n"
        f"f = IsolatedFunction({NODE!r}, 'k'); print(*f.pids, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    worker = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment, text=True)
    assert worker.stdout is not None
    pids = [int(pid) for pid in worker.stdout.readline().split()]
    worker.kill()
    worker.wait()
    for pid in pids:
        wait_until_gone(pid)


def test_a_function_that_cannot_be_made_is_named() -> None:
    with pytest.raises(RewardError, match=r"rewards\.x\.fn: ImportError: .*no nothing"):
        IsolatedFunction({**NODE, "path": "hostile_rewards.nothing"}, "rewards.x.fn")


def wait_until_gone(pid: int) -> None:
    """An unreaped zombie counts as gone: it runs no more."""
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} still runs")


VERIFYING = {"_target_": "hostile_rewards.Verifying"}


@pytest.fixture(scope="module")
def worker() -> Iterator[RewardWorker]:
    worker = RewardWorker(VERIFYING, "rewards.test.fn", 2.0, "")
    yield worker
    assert worker._isolated is not None
    worker._isolated.close()


def verdict(worker: RewardWorker, response: str, gold: str | None = "1.0") -> Outcome:
    prompt = Prompt(id="p", messages=(), token_ids=np.zeros(1, np.int32), answer=gold)
    return worker.score([(prompt, (trajectory_of(prompt, response),))])[0][0]


def test_what_spends_the_cpu_time_is_wrong_and_what_only_waits_is_late(worker: RewardWorker) -> None:
    started = time.monotonic()
    outcome = verdict(worker, "hang")
    assert score_of(outcome) == 0.0 and "0.3 s of CPU time" in str(outcome)
    assert time.monotonic() - started < 2.0  # the deadline in wall time did not have to end it
    waiting = verdict(worker, "sleep 30")
    assert isinstance(waiting, Failed) and waiting.kind is FailureKind.TIMEOUT
    assert score_of(verdict(worker, "sleep 0.6")) == 1.0  # longer than the CPU time, without spending it
    assert score_of(verdict(worker, "0.25")) == 0.25


def test_what_ends_its_process_each_time_is_wrong_and_once_is_nothing(worker: RewardWorker, tmp_path: Path) -> None:
    assert score_of(verdict(worker, "segfault")) == 0.0
    assert score_of(verdict(worker, "exit", gold=None)) == 0.0
    assert score_of(verdict(worker, f"once {tmp_path / 'flag'} segfault")) == 1.0


@pytest.mark.parametrize(("response", "gold"), [("hang", "hang"), ("hang", "raise it"), ("exit", "exit")])
def test_no_verdict_where_the_gold_has_none(worker: RewardWorker, response: str, gold: str) -> None:
    outcome = verdict(worker, response, gold)
    assert isinstance(outcome, Failed) and "the gold answer cannot be judged" in outcome.reason


def test_a_traceback_is_written_once_for_each_line_that_raises(tmp_path: Path) -> None:
    script = (
        "import sys; from test_isolate import *\n"
        "f = IsolatedFunction(NODE, 'k')\n"
        "for text in ('raise one', 'raise two', 'nonsense', 'raise three'): f.score(item(text), 10.0)\n"
        "f.close()\n"
        "act = RewardWorker({**NODE, 'isolated': False}, 'k', 2.0, '')\n"
        "act.score([item('raise here'), item('raise there')])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, text=True, check=True)
    assert done.stderr.count("ValueError: one") == done.stderr.count("could not convert string to float") == 1
    assert "two" not in done.stderr and "three" not in done.stderr and "there" not in done.stderr
    assert "ValueError: here" in done.stderr and 'hostile_rewards.py", line' in done.stderr
