"""A disk that fills up while a run is saved: one line says so, nothing saved is lost, and with room it continues."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.sides.chaos import RUN, STEPS, disturbed, steps_of, weights_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, in memory."""
    place = tmp_path / "run"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    folder = small_disk
    cut = disturbed(folder, RUN, [])
    assert cut.code == 1 and "Traceback" not in cut.output, cut.output[-3000:]
    assert f"no space left on the disk of {folder}" in cut.output and "the same command continues" in cut.output
    assert len(steps_of(folder)) < STEPS
    subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)
    continued = disturbed(folder, RUN, [])
    assert continued.code == 0, continued.output[-3000:]
    assert [row["step"] for row in steps_of(folder)] == list(range(1, STEPS + 1))
    whole = tmp_path / "whole"
    assert disturbed(whole, RUN, []).code == 0
    assert weights_of(folder) == weights_of(whole)
