"""Every role is killed at a chosen moment, or the disk fills up; the run ends with the weights of one left in peace.

One kill a role here, on the cluster of the other tests; `benchmarks/chaos.py` strikes each role twenty times at random
moments, in runs that start a cluster of their own.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from benchmarks.sides.chaos import (
    ASYNC,
    RUN,
    STEPS,
    Disturbed,
    Schedule,
    disturbed,
    events_of,
    samples_of,
    steps_of,
    weights_of,
)
from short_runs import places, train

from raylign.errors import OUT_OF_MEMORY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(folder, RUN)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, in memory."""
    place = tmp_path / "run"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)  # workers of the cluster still close their logs


def shaken(folder: Path, overrides: Sequence[str], kills: Sequence[Schedule]) -> Disturbed:
    """A run on the cluster that these tests share, whose workers are all descendants of this process."""
    return disturbed(folder, [*overrides, *places(folder)[1:]], kills, home=os.getpid())


def ended(run: Disturbed) -> None:
    assert run.code == 0, run.output[-4000:]


def test_killed_roles_change_nothing(tmp_path: Path, whole: Path) -> None:
    """Engine, reward worker and learner rank, one after the other within one run."""
    kills = [
        Schedule(role="rollout", phase="rollout", step=1, delay=0.05),
        Schedule(role="reward", phase="rollout", step=2, delay=0.1),
        Schedule(role="learner", phase="learn", step=3, delay=0.02, pick=1),
    ]
    folder = tmp_path / "run"
    run = shaken(folder, RUN, kills)
    ended(run)
    assert run.struck == kills
    assert weights_of(folder) == weights_of(whole)
    assert [row["step"] for row in steps_of(folder)] == list(range(1, STEPS + 1))
    assert samples_of(folder) == samples_of(whole)
    assert [row["kind"] for row in events_of(folder)].count("learner_restarted") == 1


def test_an_asynchronous_run_survives_its_roles_and_its_driver(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    kills = [
        Schedule(role="rollout", phase="learn", step=1, delay=0.1),
        Schedule(role="driver", phase="learn", step=3, delay=0.1),
    ]
    assert shaken(folder, [*RUN, *ASYNC], kills).code == -signal.SIGKILL
    ended(shaken(folder, [*RUN, *ASYNC], []))
    rows = steps_of(folder)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert max(row.get("async/staleness_max", 0.0) for row in rows) == 1.0, "rollouts ran ahead, and no further"
    samples = [sample for step in samples_of(folder) for sample in step]
    assert len(samples) == len(set(samples)) == STEPS * 8 * 4, "a sample is missing or was learned from twice"


def test_a_full_disk(small_disk: Path, whole: Path) -> None:
    """One line says so, nothing saved is lost, and with room the run continues."""
    folder = small_disk
    cut = shaken(folder, RUN, [])
    assert cut.code == 1 and "Traceback" not in cut.output, cut.output[-3000:]
    assert f"no space left on the disk of {folder}" in cut.output and "the same command continues" in cut.output
    assert len(steps_of(folder)) < STEPS
    subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)
    ended(shaken(folder, RUN, []))
    assert [row["step"] for row in steps_of(folder)] == list(range(1, STEPS + 1))
    assert weights_of(folder) == weights_of(whole)


def test_a_machine_without_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own monitor ends the first worker that it sees; the run says in one line that memory was it."""
    for name, value in {"memory_usage_threshold": "0", "memory_monitor_refresh_ms": "50"}.items():
        monkeypatch.setenv(f"RAY_{name}", value)  # read by Ray's server, in a cluster of the run's own
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    run = disturbed(tmp_path / "run", [*RUN, "rollout.max_restarts=0", "learner.max_restarts=0"], [], timeout_s=120)
    assert run.code == 1 and "Traceback" not in run.output, run.output[-3000:]
    last = run.output.rstrip().splitlines()[-1]
    assert last.startswith("raylign train: ") and OUT_OF_MEMORY in last
    (failed,) = [event for event in events_of(tmp_path / "run") if event["kind"] == "failed"]
    assert OUT_OF_MEMORY in failed["error"]
