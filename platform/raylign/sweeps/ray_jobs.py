"""Points as jobs of a Ray cluster: each has its own log and stop command, and outlives the machine that sent it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from raylign.config.quoting import override
from raylign.config.resolve import Run
from raylign.contracts import Launcher
from raylign.errors import Problem
from raylign.jobs.client import OVER, Jobs
from raylign.jobs.submission import CODE, Baggage, check_for_cluster, make_job
from raylign.sweeps.points import Point


class RayJobs(Launcher):
    """A Ray job a point, as `raylign submit` would send it."""

    @dataclass
    class Config:
        """The cluster and what the jobs take along."""

        parallel: int = 4
        address: str = ""  # of the dashboard; empty: RAY_ADDRESS, or this machine
        code: str = "ship"  # ship | image
        files: list[str] = field(default_factory=list)  # modules and data to send along, relative
        environment: dict[str, str] = field(default_factory=dict)
        stop_wait_s: int = 120  # a stopped job's time to save itself

        def __post_init__(self) -> None:
            if self.parallel < 1:
                raise ValueError(f"parallel must be at least 1, got {self.parallel}")
            if self.code not in CODE:
                raise ValueError(f"code must be one of {', '.join(CODE)}, got {self.code}")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """The points' folders must be where every node sees them."""
        folder = run.config.sweep.dir
        if Path(folder).is_absolute():
            return []
        why = "the points run on other machines"
        fix = "name a folder on storage that all nodes and this machine share: sweep.dir=/shared/sweeps/NAME"
        return [Problem(key="sweep.dir", value=folder or "absent", why=why, fix=fix)]

    def __init__(self, config: Config, config_dir: str = "", name: str = "sweep") -> None:
        self.parallel = config.parallel
        self._config_dir, self._name = config_dir, name
        self._baggage = Baggage(
            code=config.code,
            files=tuple(config.files),
            environment=dict(config.environment),
            stop_wait_s=config.stop_wait_s,
        )
        self._jobs = Jobs(config.address)
        self._staging = tempfile.TemporaryDirectory(prefix="raylign-sweep-")

    def start(self, point: Point) -> JobHandle:
        """Submit it; one that still runs from an earlier call of the sweep is taken over instead."""
        running = self._jobs.in_folder(str(point.folder))
        if running:
            return JobHandle(self._jobs, running)
        overrides = [*point.overrides, override("run.dir", point.folder), "telemetry.progress=plain"]
        checked = check_for_cluster(overrides, self._config_dir)
        job = make_job(checked, self._baggage, Path(self._staging.name), self._config_dir)
        return JobHandle(self._jobs, self._jobs.submit(job))

    def close(self) -> None:
        """Delete what was packed."""
        self._staging.cleanup()


class JobHandle:
    """A running job."""

    def __init__(self, jobs: Jobs, job_id: str) -> None:
        self._jobs, self.job_id = jobs, job_id

    def poll(self) -> int | None:
        """0 succeeded, 1 failed, 3 stopped, None while it waits or runs."""
        return OVER.get(self._jobs.status(self.job_id))

    def stop(self) -> None:
        """SIGTERM by the cluster: the run saves itself after the current step."""
        self._jobs.stop(self.job_id)
