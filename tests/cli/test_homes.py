"""A home that cannot be written: libraries that would keep files there get other folders, and print nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raylign.homes import XDG, give_home

NOWHERE = "/proc/nothere"  # not even for root
USE = """
import sys
from pathlib import Path
from raylign.config.schema import TelemetryConfig
from raylign.homes import give_home
from raylign.telemetry.recorder import Recorder
give_home(sys.argv[1])
import matplotlib
recorder = Recorder(Path(sys.argv[2]), TelemetryConfig(wandb=True), run_id="run1")
recorder.metrics(1, {"loss": 1.0}, "rl")
recorder.close()
print((Path(sys.argv[2]) / "events.jsonl").read_text())
"""


@pytest.fixture(autouse=True)
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", NOWHERE)
    for name in XDG:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("given", [True, False], ids=["the run's cache", "a temporary folder"])
def test_libraries_print_nothing_and_leave_nothing(given: bool, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    folders = [tmp_path / "cache", tmp_path / "run", tmp_path / "tmp"]
    folders[2].mkdir()
    words = [sys.executable, "-c", USE, str(folders[0]) if given else "", str(folders[1])]
    environment = {**os.environ, "TMPDIR": str(folders[2])}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
    assert (folders[0] / "home").exists() == given and not list(folders[2].glob("raylign-home-*"))


def test_a_home_that_can_be_written_and_what_is_set_outside_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    give_home(str(tmp_path / "cache"))
    assert os.environ["XDG_CACHE_HOME"] == str(tmp_path / "mine")
    assert Path(os.environ["XDG_CONFIG_HOME"]).is_relative_to(tmp_path / "cache")
    for name in XDG:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    give_home(str(tmp_path / "other"))
    assert not any(name in os.environ for name in XDG) and not (tmp_path / "other").exists()
