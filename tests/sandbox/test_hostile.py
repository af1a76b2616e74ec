"""Hostile programs: none escapes, none scores, none stays, and the sandbox serves the next one as if nothing had been.

Every case runs in three modes: with namespaces, without (root in a container without CAP_SYS_ADMIN), and as an ordinary
user with namespaces of its own. Programs of a kind run side by side, as they do in a run.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from hostile import ATTEMPTS, FORGERIES, LIBRARY, STAYERS, TRY

from raylign.actors.reward.mbpp import Calls, Comparison
from raylign.actors.reward.unit_tests import Reference, verdicts
from raylign.actors.sandbox import local
from raylign.actors.sandbox.contract import Ending, Program, Ran
from raylign.actors.sandbox.local import LocalSandbox
from raylign.actors.sandbox.settings import Limits, Namespaces, SandboxConfig
from raylign.actors.sandbox.values import encode
from raylign.actors.sandbox.warden import FIRST_USER, USERS
from raylign.interpreter import command
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
    "IndexError",
    "ModuleNotFoundError",
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
    shared: int

    def placed(self, code: str) -> str:
        ports = {name: str(self.sockets[name].getsockname()[1]) for name in ("UDP_PORT", "PORT")}
        places = {
            "SECRET": f"{self.folder}/grader/secret",
            "OUTSIDE": f"{self.folder}/outside",
            "PARENT": str(os.getpid()),
            **ports,
            "UNIX_PATH": f"{self.folder}/outside.sock",
            "ABSTRACT": "raylign-hostile-test",
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


@pytest.fixture(scope="module", params=["namespaces", "none", "ordinary user"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The ordinary user is uid 61000 without a capability; it is shown an interpreter that lies under /root."""
    if request.param != "namespaces" and os.geteuid() != 0:
        pytest.skip("the other modes are made by root")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "ordinary user":
            patch.setattr(local, "command", lambda *words: [*AS_A_USER, *command(*words)])
        yield from a_world(Namespaces.never if request.param == "none" else Namespaces.auto)


def a_world(namespaces: Namespaces) -> Iterator[World]:
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
    sockets["ABSTRACT"].bind("\0raylign-hostile-test")
    os.chmod(f"{folder}/outside.sock", 0o777)
    for name, listening in sockets.items():
        listening.setblocking(False)
        if name in ("UNIX_PATH", "ABSTRACT"):
            listening.listen()
    limits = Limits(processes=8, memory_mb=256, scratch_mb=16)
    sandbox = LocalSandbox(SandboxConfig(namespaces=namespaces, limits=limits, concurrency=4))
    shared = LIBC.shmget(0, 4096, 0o1666)
    yield World(sandbox, folder, sockets, shared)
    sandbox.close()
    assert LIBC.shmctl(shared, 0, None) == 0, "somebody removed it"
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


def nothing_stays(world: World) -> None:
    """No process of a program's user, and no child of the zygote but wardens that are about to end."""
    assert world.sandbox.pid and psutil.pid_exists(world.sandbox.pid)
    assert not left_over(world.sandbox.pid)
    _, alive = psutil.wait_procs(psutil.Process(world.sandbox.pid).children(recursive=True), timeout=10)
    assert not alive
    world.untouched()
    ran = world.run(GOOD)
    assert ran.reason is Ending.OK and verdicts(ran, TESTED) == [True] * 3, ran


def test_nothing_escapes(world: World) -> None:
    attempts = {
        name: f"{LIBRARY}{TRY}\nattempt(lambda: {act})"
        for name, act in ATTEMPTS.items()
        if "syscall(" not in act or platform.machine() == "x86_64"  # the numbers are that machine's
    }
    for name, ran in world.all(attempts).items():
        said = ran.stdout + ran.stderr
        assert "ESCAPED" not in said and TOLD not in said, (name, said)
        refused = said.partition("refused ")[2].strip()
        assert refused in REFUSALS, f"{name} failed for a reason of its own: {ran}"
        assert not any(verdicts(ran, TESTED)), name
    nothing_stays(world)


def test_nothing_stays(world: World) -> None:
    """Nor lasts: its own time ends within a second of the deadline, and the folder goes whatever is in it."""
    timeout_s, where = 0.7, "import os\nos.write(2, ('FOLDER ' + os.getcwd() + '\\n').encode())\n"
    for name, ran in world.all({name: where + code for name, code in STAYERS.items()}, timeout_s).items():
        assert not any(verdicts(ran, TESTED)), name
        assert "ESCAPED" not in ran.stdout, name
        assert len(ran.stdout) + len(ran.stderr) <= world.sandbox.config.limits.output_kb * 1024, name
        assert ran.seconds < timeout_s + 1.0, (name, ran)
        # The kill waits for a processor like anything else beside three bombs: what took long is tried alone.
        assert ran.cleanup_s < 1.0 or world.run(STAYERS[name], timeout_s).cleanup_s < 1.0, (name, ran)
        starved = ran.reason is Ending.STARVED  # by the others, and never by itself
        assert not starved or world.run(STAYERS[name], timeout_s).reason is not Ending.STARVED, name
        folder = ran.stderr.partition("FOLDER ")[2].partition("\n")[0]
        assert folder and not Path(folder).exists(), (name, folder)
    nothing_stays(world)


def test_nothing_scores(world: World) -> None:
    for name, ran in world.all(FORGERIES, 1.5).items():
        assert not any(verdicts(ran, TESTED)), (name, ran)
        assert ran.seconds < 2.5, (name, ran)
    nothing_stays(world)


def test_the_limit_on_processes_is_each_programs_own(world: World) -> None:
    code = "import threading, time\nfor _ in range(6): threading.Thread(target=time.sleep, args=(0.4,)).start()"
    for ran in world.all({str(number): code for number in range(4)}).values():
        assert ran.stderr == "", ran


def test_file_times_of_others_stay(world: World) -> None:
    """A copy inside the scratch folder works, and nothing outside is touched."""
    before = (world.folder / "outside").stat()
    code = "import os, shutil\nopen('a', 'w').write('x')\nprint(shutil.copy2('a', 'b'))\nos.utime('OUTSIDE')"
    ran = world.run(code)
    assert ran.stdout == "b\n", ran
    assert (world.folder / "outside").stat() == before


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
