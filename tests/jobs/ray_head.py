"""A real Ray head of its own: free ports, a token, its own folder. Ends by its process group, never by name."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent  # jobs run the first `python` of the head's PATH


@dataclass(frozen=True, slots=True)
class Head:
    """A running head and how to reach it."""

    address: str  # of its dashboard
    token: str
    folder: Path

    def environment(self, token: bool = True) -> dict[str, str]:
        """Variables of a client: no other cluster, no other token."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        mine = {"RAY_AUTH_TOKEN": self.token} if token else {}
        return {**kept, **mine, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(self.folder), "COLUMNS": "120"}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def ray_head(cpus: int = 8) -> Iterator[Head]:
    """``ray start --head --block`` as a child process, until the block is left."""
    folder = Path(tempfile.mkdtemp(prefix="rl-head-", dir="/tmp"))  # short: Unix sockets lie below it
    gcs, dashboard, agent, agent_grpc, metrics, client = free_ports(6)
    head = Head(f"http://127.0.0.1:{dashboard}", secrets.token_hex(32), folder)
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
        f"--num-cpus={cpus}",
    ]
    command += ["--node-ip-address=127.0.0.1", f"--port={gcs}", f"--dashboard-port={dashboard}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}"]
    command += [f"--metrics-export-port={metrics}", f"--ray-client-server-port={client}"]
    command += ["--object-store-memory=200000000", f"--temp-dir={folder}/ray"]
    environment = {**head.environment(), "RAY_AUTH_MODE": "token", "RAY_metrics_report_interval_ms": "1000"}
    environment |= {"RAY_raylet_start_wait_time_s": "400", "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "400"}  # a loaded machine
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        _await(head, process)
        yield head
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _await(head: Head, process: subprocess.Popen[bytes], patience: float = 500.0) -> None:
    request = urllib.request.Request(f"{head.address}/api/version", headers={"Authorization": f"Bearer {head.token}"})
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        printed = (head.folder / "head.log").read_text()
        assert process.poll() is None, printed[-3000:]
        try:
            with urllib.request.urlopen(request, timeout=10):
                if "Ray runtime started" in printed:
                    return
        except OSError:
            pass
        time.sleep(1.0)
    raise AssertionError(printed[-3000:])
