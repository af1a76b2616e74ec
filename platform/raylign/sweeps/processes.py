"""Points as processes of this machine, so that no engine state leaks from one to the next."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

from raylign.config.quoting import override
from raylign.contracts import Launcher
from raylign.errors import RaylignError
from raylign.sweeps.points import Point


class Processes(Launcher):
    """A process a point; what it prints goes to ``output.log`` in its folder."""

    @dataclass
    class Config:
        """Number of runs at a time."""

        parallel: int = 1

        def __post_init__(self) -> None:
            if self.parallel < 1:
                raise ValueError(f"parallel must be at least 1, got {self.parallel}")

    def __init__(self, config: Config, config_dir: str = "", name: str = "") -> None:
        self.parallel = config.parallel
        self._config_dir = config_dir

    def start(self, point: Point) -> ProcessHandle:
        """Start it in a session of its own: Ctrl-C reaches the sweep alone, and every point saves itself once."""
        arguments = [*point.overrides, override("run.dir", point.folder), "telemetry.progress=plain"]
        command = [sys.executable, "-m", "raylign.cli", "train", *arguments]
        command += ["--config-dir", self._config_dir] if self._config_dir else []
        with (point.folder / "output.log").open("ab") as log:
            try:
                process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            except OSError as cause:
                raise RaylignError(f"a point could not be started: {cause}") from cause
        return ProcessHandle(process)

    def close(self) -> None:
        """Nothing is left behind."""


class ProcessHandle:
    """A running process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        """Exit status, None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """SIGTERM: the run saves itself after the current step."""
        self._process.terminate()
