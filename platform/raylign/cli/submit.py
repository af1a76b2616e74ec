"""``raylign submit``: check a run here, send it to a Ray cluster, and say how to watch and stop it."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raylign.cli.options import add_overrides, new_command, say
from raylign.errors import ConfigError, PlanError, Problem
from raylign.jobs.client import OVER, JobError, Jobs
from raylign.jobs.submission import CODE, Baggage, Checked, check_for_cluster, make_job
from raylign.plan import make_plan

EPILOG = """\
examples:
  raylign submit recipe=grpo scale=cluster model.path=Qwen/Qwen3-8B data.path=/shared/train.jsonl run.dir=/shared/runs/a
  raylign submit --address http://head:8265 --wait recipe=grpo scale=tiny run.dir=/shared/runs/b
  raylign submit --with my_rewards.py run.allow_targets=[my_rewards.] ...   user code travels beside the package

What travels: the package (by content), files that a setting names by a relative path, --with, --config-dir.
Absolute paths and Hub ids are looked up on the cluster. The same command continues a run that was stopped.
"""


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = new_command(commands, "submit", "run a recipe as a job of a Ray cluster, or continue it there", EPILOG)
    add_overrides(parser)
    parser.add_argument(
        "--address", default="", metavar="URL", help="the cluster's dashboard (default: RAY_ADDRESS, or this machine)"
    )
    parser.add_argument(
        "--wait", action=argparse.BooleanOptionalAction, default=False, help="follow the job until it ends"
    )
    parser.add_argument(
        "--with", action="append", default=[], metavar="PATH", dest="files", help="a file or folder to send along"
    )
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME[=VALUE]", help="a variable for the job; visible to others"
    )
    parser.add_argument("--code", choices=CODE, default="ship", help="ship this package, or use the image's")
    parser.add_argument("--job-id", default="", metavar="ID", help="instead of <recipe>-<time>-<4 hex>")
    parser.add_argument(
        "--stop-wait", type=int, default=120, metavar="S", help="seconds a stopped job has to save itself (default 120)"
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> int:
    """Submit; with --wait the exit status is the job's (0 succeeded, 1 failed, 3 stopped)."""
    checked = check_for_cluster(parsed.overrides, parsed.config_dir)
    baggage = Baggage(
        code=parsed.code,
        files=tuple(parsed.files),
        environment=environment_of(parsed.env),
        stop_wait_s=parsed.stop_wait,
    )
    for warning in checked.warnings:
        say(f"warning: {warning}")
    jobs = Jobs(parsed.address)
    folder = checked.run.config.run.dir
    if other := jobs.in_folder(folder):
        raise JobError(f"job {other} works in {folder}; fix: stop it (ray job stop {other}), or choose another run.dir")
    with tempfile.TemporaryDirectory(prefix="raylign-job-") as staging:
        job = make_job(checked, baggage, Path(staging), parsed.config_dir, parsed.job_id)
        job_id = jobs.submit(job)
    say(_announcement(jobs, job_id, job.metadata["code"], checked))
    return _wait(jobs, job_id) if parsed.wait else 0


def environment_of(words: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE``, or ``NAME`` with the value that it has here. Raises ConfigError for a name that is not set."""
    pairs, problems = {}, []
    for word in words:
        name, given, value = word.partition("=")
        if not given and name not in os.environ:
            problems.append(Problem(key="--env", value=name, why="is not set here", fix=f"write --env {name}=VALUE"))
        pairs[name] = value if given else os.environ.get(name, "")
    if problems:
        raise ConfigError(problems)
    return pairs


def _announcement(jobs: Jobs, job_id: str, code: str, checked: Checked) -> str:
    at = f"--address {jobs.address}"
    mode = "RAY_AUTH_MODE=token " if jobs.has_token else ""
    try:
        plan = make_plan(checked.run)
        needs = f"{plan.cpus:g} CPU, {plan.gpus:g} GPU in {len(plan.bundles)} bundles"
    except PlanError as cause:
        needs = f"unknown here ({cause})"
    rows = {
        "job": job_id,
        "code": code,
        "needs": needs,
        "run": checked.run.config.run.dir,
        "dashboard": f"{jobs.address}/#/jobs/{job_id}",
        "log": f"{mode}ray job logs {job_id} --follow {at}",
        "stop": f"{mode}ray job stop {job_id} {at}",
        "again": "the same command continues the run",
    }
    return "\n".join(f"{name:<10} {text}" for name, text in rows.items())


def _wait(jobs: Jobs, job_id: str) -> int:
    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        status = jobs.follow(job_id, write)
    except KeyboardInterrupt:
        say(f"\njob {job_id} goes on; stop it by `ray job stop {job_id} --address {jobs.address}`")
        raise
    say(f"job {job_id}: {status}" + ("" if status == "SUCCEEDED" else f" ({jobs.message(job_id).strip()})"))
    return OVER.get(status, 1)
