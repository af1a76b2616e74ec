"""What hostile programs must not reach, in three modes, and whether anything of them is left."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from raylign.actors.reward.mbpp import Calls, Comparison
from raylign.actors.reward.unit_tests import Reference, verdicts
from raylign.actors.sandbox.contract import Ending, Program, Ran
from raylign.actors.sandbox.local import LocalSandbox
from raylign.actors.sandbox.settings import Limits, Namespaces, SandboxConfig
from raylign.actors.sandbox.values import encode
from raylign.actors.sandbox.warden import FIRST_USER, USERS

TOLD = "the grader's secret 5f1d"
GOOD = "def double(x):\n    return 2 * x"
INPUTS = (2, 7, -3)
TESTED = Reference(
    calls=Calls(
        entry="double",
        arguments=tuple(encode([x]) for x in INPUTS),
        comparison=Comparison.equal,
        tolerance=1e-6,
    ),
    expected=tuple(encode(2 * x) for x in INPUTS),
    seconds=0.0,
)
NAMED = f"raylign-hostile-{os.getpid()}"  # of an abstract socket, which is the machine's
SHARED = ("/dev/shm/raylign-hostile", "/tmp/raylign-hostile")  # where hostile programs try to write


@dataclass
class Environment:
    """What a program must not reach."""

    sandbox: LocalSandbox
    folder: Path
    sockets: dict[str, socket.socket]
    shared: int

    def placed(self, code: str) -> str:
        ports = {name: str(self.sockets[name].getsockname()[1]) for name in ("UDP_PORT", "PORT")}
        places = {
            "SECRET": f"{self.folder}/grader/secret",
            "OUTSIDE": f"{self.folder}/outside",
            "PARENT": str(os.getpid()),
            **ports,
            "UNIX_PATH": f"{self.folder}/outside.sock",
            "ABSTRACT": NAMED,
            "DATAGRAMS": f"{self.folder}/datagrams.sock",
            "PACKAGES": str(Path(pytest.__file__).parents[1]),
            "SHARED_ID": str(self.shared),
        }
        for name, value in places.items():
            code = code.replace(name, value)
        return code

    def run(self, code: str, timeout_s: float = 20.0) -> Ran:
        return self.sandbox.run(
            Program(
                code=self.placed(code),
                entry="double",
                calls=TESTED.calls.arguments,
                timeout_s=timeout_s,
            )
        )

    def untouched(self) -> None:
        assert not list((self.folder / "outside").iterdir())
        assert (self.folder / "grader" / "secret").read_text() == TOLD
        assert not any(Path(path).exists() for path in SHARED)
        for name, listening in self.sockets.items():
            with pytest.raises(BlockingIOError):
                listening.accept() if name in STREAMS else listening.recv(9)

    def all(self, programs: Mapping[str, str], timeout_s: float = 20.0) -> dict[str, Ran]:
        """What came of each, several at a time."""
        with ThreadPoolExecutor(self.sandbox.concurrency) as threads:
            return dict(
                zip(programs, threads.map(lambda code: self.run(code, timeout_s), programs.values()), strict=True)
            )


STREAMS = ("PORT", "UNIX_PATH", "ABSTRACT")
REMOVED_S = 30.0  # a disk may need milliseconds to remove one of a thousand folders
LIBC = ctypes.CDLL(None)
HOME = Path("/root")
OPEN_HOME = f"""
set -e
case {sys.base_prefix} in {HOME}/*)
  mount -t tmpfs none /mnt; mkdir /mnt/python; mount --bind {sys.base_prefix} /mnt/python
  mount -t tmpfs -o mode=755 none {HOME}; mkdir -p {sys.base_prefix}; mount --bind /mnt/python {sys.base_prefix}
esac
exec setpriv --reuid=61000 --regid=61000 --clear-groups "$@"
"""
AS_A_USER = ["unshare", "--mount", "--propagation=private", "sh", "-c", OPEN_HOME, "sh"]


def an_environment(namespaces: Namespaces) -> Iterator[Environment]:
    os.environ["RAYLIGN_TEST_PASSWORD"] = TOLD
    for path in SHARED:
        Path(path).unlink(missing_ok=True)
    folder = Path(tempfile.mkdtemp())  # not tmp_path: that is closed to other users, and would protect by itself
    for part, mode in ((folder, 0o755), (folder / "grader", 0o755), (folder / "outside", 0o777)):
        part.mkdir(exist_ok=True)
        part.chmod(mode)
    (folder / "grader" / "secret").write_text(TOLD)
    (folder / "grader" / "secret").chmod(0o644)
    sockets = {
        "PORT": socket.create_server(("127.0.0.1", 0)),
        "UDP_PORT": socket.socket(type=socket.SOCK_DGRAM),
        "UNIX_PATH": socket.socket(socket.AF_UNIX),
        "ABSTRACT": socket.socket(socket.AF_UNIX),
        "DATAGRAMS": socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
    }
    sockets["DATAGRAMS"].bind(f"{folder}/datagrams.sock")
    os.chmod(f"{folder}/datagrams.sock", 0o777)
    sockets["UDP_PORT"].bind(("127.0.0.1", 0))
    sockets["UNIX_PATH"].bind(f"{folder}/outside.sock")
    sockets["ABSTRACT"].bind(f"\0{NAMED}")
    os.chmod(f"{folder}/outside.sock", 0o777)
    for name, listening in sockets.items():
        listening.setblocking(False)
        if name in ("UNIX_PATH", "ABSTRACT"):
            listening.listen()
    limits = Limits(processes=8, memory_mb=256, scratch_mb=16)
    sandbox = LocalSandbox(SandboxConfig(namespaces=namespaces, limits=limits, concurrency=4))
    shared = LIBC.shmget(0, 4096, 0o1666)
    yield Environment(sandbox, folder, sockets, shared)
    sandbox.close()
    assert LIBC.shmctl(shared, 0, None) == 0, "somebody removed it"
    del os.environ["RAYLIGN_TEST_PASSWORD"]
    for listening in sockets.values():
        listening.close()
    shutil.rmtree(folder)


def left_over(zygote: int) -> set[tuple[int, float]]:
    """Processes with a program's user id, those apart whose warden is another sandbox's (the id tells the warden)."""
    processes = set()
    for process in psutil.process_iter(["uids", "create_time", "status"]):
        uids = process.info["uids"]
        if uids is None or not FIRST_USER <= uids.real < FIRST_USER + USERS:
            continue
        if process.info["status"] != psutil.STATUS_ZOMBIE and not anothers(uids.real - FIRST_USER, zygote):
            processes.add((process.pid, process.info["create_time"]))
    return processes


def anothers(warden: int, zygote: int) -> bool:
    try:
        return psutil.Process(warden).ppid() not in (zygote, 1)
    except psutil.NoSuchProcess:
        return False


def nothing_stays(environment: Environment) -> None:
    """No process of a program's user, and no child of the zygote but wardens that are about to end."""
    assert environment.sandbox.pid and psutil.pid_exists(environment.sandbox.pid)
    assert not left_over(environment.sandbox.pid)
    _, alive = psutil.wait_procs(psutil.Process(environment.sandbox.pid).children(recursive=True), timeout=REMOVED_S)
    assert not alive
    environment.untouched()
    ran = environment.run(GOOD)
    assert ran.reason is Ending.OK and verdicts(ran, TESTED) == [True] * 3, ran


def gone(folder: str) -> bool:
    """Whether a program's folder is removed: at once, or when a slow disk has done it."""
    deadline = time.monotonic() + REMOVED_S
    while Path(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not Path(folder).exists()
