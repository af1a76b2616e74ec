"""Talk to a cluster's job server: one client for submission and sweeps, with errors that name their fix."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.exceptions import AuthenticationError

from raylign.errors import RaylignError

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
TOKEN_FILE = Path("~/.ray/auth_token")
NO_AGENT_FIX = (
    "\n  fix: the head may still be starting, then try again; or another Ray on its machine (a local run, too) took "
    "its agent's port, 52365: end that one, or start the head with `--dashboard-agent-listen-port` and another"
)
OVER = {"SUCCEEDED": 0, "FAILED": 1, "STOPPED": 3}  # status -> exit status of a command that waited for it


class JobError(RaylignError):
    """The job server cannot be reached, wants a token, or refuses the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it is handed in.

    Example: ``Job(id="grpo-1", entrypoint="exec python -m raylign.cli train recipe=grpo", runtime_env={})``
    """

    id: str
    entrypoint: str
    runtime_env: Mapping[str, Any]
    metadata: Mapping[str, str] = field(default_factory=dict)


class Jobs:
    """The jobs of one cluster.

    address: ``http://head:8265``, or empty for RAY_API_SERVER_ADDRESS, RAY_ADDRESS or this machine, in that order.
    The token, if there is one, is sent with every request: whether the client's own RAY_AUTH_MODE is set is no matter.
    Raises JobError when no job server answers or when it refuses the token.
    """

    def __init__(self, address: str = "") -> None:
        if address:  # Ray lets its own variables win over an argument; what is written on the command line must win
            os.environ["RAY_API_SERVER_ADDRESS"] = address
        from ray.job_submission import JobSubmissionClient  # half a second that no other command should wait for

        wanted = address or _from_environment() or DEFAULT_ADDRESS
        token = cluster_token(os.environ)
        headers = {"Authorization": f"Bearer {token}"} if token else None
        self.has_token = bool(token)
        for name in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
            logging.getLogger(name).setLevel(logging.WARNING)  # it tells every upload
        with _named(wanted):
            self._client = JobSubmissionClient(wanted, headers=headers)
        self.address: str = self._client.get_address()

    def submit(self, job: Job) -> str:
        """Hand a job in; its local folders are uploaded first. Returns its id."""
        with _named(self.address):
            return str(
                self._client.submit_job(
                    entrypoint=job.entrypoint,
                    submission_id=job.id,
                    runtime_env=dict(job.runtime_env),
                    metadata=dict(job.metadata),
                )
            )

    def status(self, job_id: str) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
        with _named(self.address):
            return str(self._client.get_job_status(job_id).value)

    def message(self, job_id: str) -> str:
        """What the server says about the job's state; empty when nothing."""
        with _named(self.address):
            return str(self._client.get_job_info(job_id).message or "")

    def logs(self, job_id: str) -> str:
        """Everything that the job's driver printed so far."""
        with _named(self.address):
            return str(self._client.get_job_logs(job_id))

    def stop(self, job_id: str) -> None:
        """Ask a job to save itself and end (SIGTERM); returns at once."""
        with _named(self.address):
            self._client.stop_job(job_id)

    def in_folder(self, run_dir: str) -> str:
        """The job that works in a run folder at this moment; empty when none does."""
        with _named(self.address):
            jobs = self._client.list_jobs()
        alive = (job for job in jobs if str(job.status.value) not in OVER)
        return next((str(job.submission_id) for job in alive if (job.metadata or {}).get("run_dir") == run_dir), "")

    def follow(self, job_id: str, write: Callable[[str], None]) -> str:
        """Pass on what the job prints until it ends; returns its last status."""

        async def tail() -> None:
            async for text in self._client.tail_job_logs(job_id):
                write(text)

        with _named(self.address):
            asyncio.run(tail())
        return self.status(job_id)


def cluster_token(environment: Mapping[str, str]) -> str:
    """The token that Ray's own client would send: of the variable, the file it names, or ``~/.ray/auth_token``.

    Empty when there is none, or when RAY_AUTH_MODE=disabled.
    """
    if environment.get("RAY_AUTH_MODE", "") == "disabled":
        return ""
    if "RAY_AUTH_TOKEN" in environment:
        return environment["RAY_AUTH_TOKEN"].strip()
    file = Path(environment.get("RAY_AUTH_TOKEN_PATH", "") or TOKEN_FILE).expanduser()
    return file.read_text().strip() if file.is_file() else ""


def _from_environment() -> str:
    return os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or ""


@contextmanager
def _named(address: str) -> Iterator[None]:
    """Turn what Ray's client raises into one sentence with a fix."""
    try:
        yield
    except AuthenticationError as cause:
        if "Authentication required" in str(cause):
            raise JobError(
                f"{address} wants a token, and none was sent.\n"
                "  fix: export RAY_AUTH_TOKEN=<what `ray get-auth-token` prints on the head node>, or put it into "
                f"{TOKEN_FILE}; RAY_AUTH_MODE must not be disabled"
            ) from cause
        raise JobError(
            f"{address} refuses the token: it belongs to another cluster.\n"
            "  fix: export RAY_AUTH_TOKEN=<what `ray get-auth-token` prints on the head node of this one>"
        ) from cause
    except (ConnectionError, OSError) as cause:
        raise JobError(
            f"no job server answers at {address} ({str(cause).splitlines()[0]}).\n"
            "  fix: start a cluster with `ray start --head`, or name its dashboard: --address http://<head>:8265"
        ) from cause
    except (RuntimeError, ValueError) as cause:
        fix = NO_AGENT_FIX if "No available agent" in str(cause) else ""
        raise JobError(f"the job server at {address} refuses: {cause}{fix}") from cause
