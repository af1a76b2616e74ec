"""A launcher hands a point's folder on as it is called: what it would start, composed again, writes there."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from raylign.config.compose import compose
from raylign.sweeps import processes, ray_jobs
from raylign.sweeps.points import Point
from raylign.sweeps.processes import Processes
from raylign.sweeps.ray_jobs import RayJobs

NAMES = ("my proj (v2)", "a,b", "it's", "a=b", "[x]{y}", "${seed}", "~a #b")


class Told(Exception):
    """Ends the start where its words are known."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("launcher", [Processes, RayJobs])
def test_a_points_folder_arrives_as_it_is_called(
    launcher: type[Processes] | type[RayJobs], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def tell(words: Sequence[str], *_: Any, **__: Any) -> None:
        told.extend(word for word in words if word.startswith("run.dir="))
        raise Told

    monkeypatch.setattr(processes.subprocess, "Popen", tell)
    monkeypatch.setattr(ray_jobs, "check_for_cluster", tell)
    monkeypatch.setattr(ray_jobs, "Jobs", NoneRunning)
    (folder := tmp_path / name).mkdir()
    with pytest.raises(Told):
        launcher(launcher.Config()).start(Point(number=0, overrides=[], varied=[], folder=folder))
    assert compose(["recipe=grpo", "scale=tiny", *told]).config.run.dir == str(folder)
    assert subprocess.Popen is tell


class NoneRunning:
    """A cluster on which nothing runs."""

    def __init__(self, address: str) -> None:
        """Asks nobody."""

    def in_folder(self, folder: str) -> str:
        """No job."""
        return ""
