"""Hostile programs: none escapes, none scores, none stays, and the sandbox serves the next one as if nothing had been.

Every case runs with namespaces (where the machine has them) and without, as in a container without CAP_SYS_ADMIN.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from hostile import ATTEMPTS, FORGERIES, LIBRARY, STAYERS, TRY

from raylign.actors.reward.mbpp import Calls, Comparison
from raylign.actors.reward.unit_tests import Reference, verdicts
from raylign.actors.sandbox.contract import Ending, Program, Ran
from raylign.actors.sandbox.local import LocalSandbox
from raylign.actors.sandbox.settings import Limits, Namespaces, SandboxConfig
from raylign.actors.sandbox.values import encode
from raylign.actors.sandbox.warden import FIRST_USER, USERS
from raylign.isolation import examine

MACHINE = examine()
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
SHARED = ("/dev/shm/raylign-hostile", "/tmp/raylign-hostile")  # where hostile programs try to write
REFUSALS = (
    "PermissionError",
    "FileNotFoundError",
    "ProcessLookupError",
    "OSError",
    "gaierror",
    "ValueError",
    "KeyError",
)
pytestmark = pytest.mark.skipif(
    MACHINE is None or any(map(MACHINE.lacks, ("containment", "landlock", "seccomp"))),
    reason="this machine cannot isolate (raylign doctor says what is missing)",
)


@dataclass
class World:
    """What a program must not reach."""

    sandbox: LocalSandbox
    folder: Path
    sockets: dict[str, socket.socket]

    def placed(self, code: str) -> str:
        ports = {name: str(self.sockets[name].getsockname()[1]) for name in ("UDP_PORT", "PORT")}
        places = {
            "SECRET": f"{self.folder}/grader/secret",
            "OUTSIDE": f"{self.folder}/outside",
            "PARENT": str(os.getpid()),
            **ports,
            "UNIX_PATH": f"{self.folder}/outside.sock",
            "ABSTRACT": "raylign-hostile-test",
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
                listening.recv(9) if name == "UDP_PORT" else listening.accept()


@pytest.fixture(scope="module", params=list(Namespaces))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param is Namespaces.never and os.geteuid() != 0:
        pytest.skip("without root and without namespaces there is no containment")
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
    }
    sockets["UDP_PORT"].bind(("127.0.0.1", 0))
    sockets["UNIX_PATH"].bind(f"{folder}/outside.sock")
    sockets["ABSTRACT"].bind("\0raylign-hostile-test")
    os.chmod(f"{folder}/outside.sock", 0o777)
    for name, listening in sockets.items():
        listening.setblocking(False)
        if name in ("UNIX_PATH", "ABSTRACT"):
            listening.listen()
    limits = Limits(processes=8, memory_mb=256, scratch_mb=16)
    sandbox = LocalSandbox(SandboxConfig(namespaces=request.param, limits=limits, concurrency=2))
    yield World(sandbox, folder, sockets)
    sandbox.close()
    del os.environ["RAYLIGN_TEST_PASSWORD"]
    for listening in sockets.values():
        listening.close()
    shutil.rmtree(folder)


def left_over(zygote: int) -> set[tuple[int, float]]:
    """Processes with a program's user id, those apart whose warden is another sandbox's (the id tells the warden)."""
    found = set()
    for process in psutil.process_iter(["uids", "create_time", "status"]):
        uids = process.info["uids"]
        if uids is None or not FIRST_USER <= uids.real < FIRST_USER + USERS:
            continue
        if process.info["status"] != psutil.STATUS_ZOMBIE and not anothers(uids.real - FIRST_USER, zygote):
            found.add((process.pid, process.info["create_time"]))
    return found


def anothers(warden: int, zygote: int) -> bool:
    try:
        return psutil.Process(warden).ppid() not in (zygote, 1)
    except psutil.NoSuchProcess:
        return False


def nothing_stays(world: World, ran: Ran) -> None:
    """The warden's own measure, and the process table right after it."""
    assert ran.cleanup_s < 1.0
    assert world.sandbox.pid and psutil.pid_exists(world.sandbox.pid)
    assert not left_over(world.sandbox.pid)


def still_usable(world: World) -> None:
    ran = world.run(GOOD)
    assert ran.reason is Ending.OK and verdicts(ran, TESTED) == [True] * 3, ran


@pytest.mark.parametrize("name", ATTEMPTS)
def test_it_does_not_escape(world: World, name: str) -> None:
    if "syscall(" in ATTEMPTS[name] and platform.machine() != "x86_64":
        pytest.skip("the call's number is that of x86-64")
    ran = world.run(f"{LIBRARY}{TRY}\nattempt(lambda: {ATTEMPTS[name]})")
    said = ran.stdout + ran.stderr
    assert "ESCAPED" not in said and TOLD not in said, said
    refused = said.partition("refused ")[2].strip()
    assert refused in REFUSALS, f"the attempt failed for a reason of its own: {said}"
    world.untouched()
    assert not any(verdicts(ran, TESTED))
    nothing_stays(world, ran)
    still_usable(world)


@pytest.mark.parametrize("name", STAYERS)
def test_it_does_not_stay(world: World, name: str) -> None:
    ran = world.run(STAYERS[name], timeout_s=0.7)
    assert not any(verdicts(ran, TESTED))
    assert len(ran.stdout) + len(ran.stderr) <= world.sandbox.config.limits.output_kb * 1024
    nothing_stays(world, ran)
    world.untouched()
    still_usable(world)


@pytest.mark.parametrize("name", FORGERIES)
def test_it_does_not_score(world: World, name: str) -> None:
    ran = world.run(FORGERIES[name], timeout_s=3.0 if "sleep" not in name else 0.5)
    passed = verdicts(ran, TESTED)
    assert not all(passed) or ran.reason is not Ending.OK
    assert not any(passed), (name, ran)
    world.untouched()
    nothing_stays(world, ran)
    still_usable(world)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("while True: pass", Ending.TIMEOUT),
        ("import time\ntime.sleep(99)", Ending.TIMEOUT),
        ("x = [0] * 10**12", Ending.MEMORY),
        ("while True: print('x' * 100000)", Ending.OUTPUT_LIMIT),
        ("import ctypes\nctypes.string_at(1)", Ending.KILLED),
        ("1 / 0", Ending.ERROR),
        ("import sys\nsys.exit(3)", Ending.ERROR),
        ("import sys\nsys.exit()", Ending.OK),
    ],
)
def test_the_reason_is_told(world: World, code: str, reason: Ending) -> None:
    ran = world.sandbox.run(Program(code=code, timeout_s=0.7 if reason is Ending.TIMEOUT else 20.0))
    assert ran.reason is reason, ran


def test_one_program_cannot_see_another(world: World) -> None:
    """Two at once: scratch folders, processes and signals are their own."""
    watcher = "import os, time\nopen('mine', 'w').write('1')\ntime.sleep(1)\nprint(os.listdir('.'))\nprint('alive')"
    killer = (
        "import os\nfor pid in range(2, 40000):\n    try: os.kill(pid, 9)\n    except OSError: pass\nos.kill(-1, 9)"
    )
    results: list[Ran] = []
    thread = threading.Thread(target=lambda: results.append(world.sandbox.run(Program(code=watcher, timeout_s=30.0))))
    thread.start()
    world.sandbox.run(Program(code=killer, timeout_s=20.0))
    thread.join()
    assert results[0].stdout == "['mine']\nalive\n", results
