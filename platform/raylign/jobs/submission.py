"""Make a Ray job of a command line: checked here, so that a typo costs no cluster time, then packed."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raylign.cluster import LOCAL
from raylign.config.compose import compose_with_problems
from raylign.config.resolve import Run
from raylign.errors import ConfigError, Problem
from raylign.jobs.client import Job
from raylign.jobs.package import (
    CONFIG_DIR,
    content_hash,
    relative_files,
    run_dir_problems,
    run_dir_warning,
    stage_package,
    stage_working_dir,
)
from raylign.run_folder import identity_of
from raylign.telemetry.environment import source_revision

CODE = ("ship", "image")


@dataclass(frozen=True, slots=True, kw_only=True)
class Baggage:
    """Files and variables that a job needs besides its settings.

    Example: ``Baggage(files=("my_rewards.py",), environment={"HF_HOME": "/shared/hf"})``
    """

    code: str = "ship"  # ship: this package, by content; image: what the cluster's image has installed
    files: tuple[str, ...] = ()  # modules and data, relative to the current folder
    environment: dict[str, str] = field(default_factory=dict)
    stop_wait_s: int = 120  # between SIGTERM and SIGKILL: a step must end and be saved within it


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A configuration that may be sent, and what its owner should know."""

    run: Run
    overrides: tuple[str, ...]  # as the job will run them
    files: tuple[str, ...]
    warnings: tuple[str, ...]


def check_for_cluster(overrides: Sequence[str], config_dir: str = "", files: Sequence[str] = ()) -> Checked:
    """Compose and check a configuration for a run on another machine. Raises ConfigError with every problem.

    An absolute path that is not on this machine is a warning: it may well be on the cluster.
    """
    run, problems = compose_with_problems(overrides, config_dir)
    warnings: list[str] = []
    if run is not None:
        elsewhere = [problem for problem in problems if _may_be_elsewhere(problem)]
        warnings += [f"{problem.key} = {problem.value} is not on this machine; unchecked" for problem in elsewhere]
        problems = [problem for problem in problems if problem not in elsewhere]
        problems += run_dir_problems(run.config)
        relative, not_portable = relative_files(run.tree, Path.cwd())
        problems += not_portable
    if problems or run is None:
        raise ConfigError(problems)
    added = [] if run.config.cluster.address != LOCAL else ["cluster.address=auto"]
    if warning := run_dir_warning(run.config.run.dir):
        warnings.append(warning)
    return Checked(
        run=run,
        overrides=(*overrides, *added),
        files=(*files, *relative),
        warnings=tuple(warnings),
    )


def make_job(checked: Checked, baggage: Baggage, staging: Path, config_dir: str = "", job_id: str = "") -> Job:
    """Pack a checked configuration. staging: a folder that must live until the job is submitted.

    Raises ConfigError when a file cannot travel.
    """
    config = checked.run.config
    environment = {"RAY_JOB_STOP_WAIT_TIME_S": str(baggage.stop_wait_s), **baggage.environment}
    runtime_env: dict[str, object] = {"env_vars": environment}
    code = "image"
    if baggage.code == "ship":
        package = stage_package(staging / "pkg") if not (staging / "pkg").exists() else staging / "pkg" / "raylign"
        code = content_hash(package)
        runtime_env["py_modules"] = [str(package)]
    files = (*checked.files, *baggage.files)
    if files or config_dir:
        problems = stage_working_dir(staging / "files", files, Path.cwd(), config_dir)
        if problems:
            raise ConfigError(problems)
        runtime_env["working_dir"] = str(staging / "files")
    words = ["python", "-m", "raylign.cli", "train", *checked.overrides]
    words += ["--config-dir", CONFIG_DIR] if config_dir else []
    return Job(
        id=job_id or new_id(config.recipe),
        entrypoint=f"exec {shlex.join(words)}",  # no shell is left between the stop signal and the driver
        runtime_env=runtime_env,
        metadata={
            "recipe": config.recipe,
            "run_dir": config.run.dir,
            "config": identity_of(checked.run.tree)["hash"],
            "code": code,
            "commit": str(source_revision().get("sha", "")),
        },
    )


def new_id(recipe: str) -> str:
    """``<recipe>-<date>-<time>-<4 hex>``; Ray never takes an id twice."""
    return f"{recipe}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def _may_be_elsewhere(problem: Problem) -> bool:
    return (
        (problem.key.endswith("path") or problem.key == "run.dir")
        and problem.value.startswith(("/", "~"))
        and not Path(problem.value).expanduser().exists()
    )
