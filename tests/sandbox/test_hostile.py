"""Hostile programs: none escapes, none scores, none stays, and the sandbox serves the next one as if nothing had been.

Every case runs in three modes: with namespaces, without (root in a container without CAP_SYS_ADMIN), and as an ordinary
user with namespaces of its own. Programs of a kind run side by side, as they do in a run. Those that consume run
without namespaces, where nothing but the limits stops them; ``RAYLIGN_ALL_MODES=1`` runs them in the others, too.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Iterator

import pytest
from hostile_environment import AS_A_USER, TESTED, TOLD, Environment, an_environment, gone, nothing_stays
from hostile_escapes import ATTEMPTS, LIBRARY, TRY
from hostile_forgeries import FORGERIES
from hostile_hogs import HOGS
from hostile_patches import PATCHES
from hostile_stayers import STAYERS

from raylign.actors.reward.unit_tests import code_of, verdicts
from raylign.actors.sandbox import local
from raylign.actors.sandbox.contract import Ending, Program, Ran
from raylign.actors.sandbox.settings import Namespaces
from raylign.interpreter import command
from raylign.isolation import examine

MACHINE = examine()
TIMEOUT_S = 0.6
ALL_MODES = bool(os.environ.get("RAYLIGN_ALL_MODES"))
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


@pytest.fixture(scope="module", params=["namespaces", "none", "ordinary user"])
def environment(request: pytest.FixtureRequest) -> Iterator[Environment]:
    """The ordinary user is uid 61000 without a capability; it is shown an interpreter that lies under /root."""
    if request.param != "namespaces" and os.geteuid() != 0:
        pytest.skip("the other modes are made by root")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "ordinary user":
            patch.setattr(local, "command", lambda *words: [*AS_A_USER, *command(*words)])
        yield from an_environment(Namespaces.never if request.param == "none" else Namespaces.auto)


def test_nothing_escapes(environment: Environment) -> None:
    attempts = {
        name: f"{LIBRARY}{TRY}\nattempt(lambda: {act})"
        for name, act in ATTEMPTS.items()
        if "syscall(" not in act or platform.machine() == "x86_64"  # the numbers are that machine's
    }
    for name, ran in environment.all(attempts).items():
        said = ran.stdout + ran.stderr
        assert "ESCAPED" not in said and TOLD not in said, (name, said)
        refused = said.partition("refused ")[2].strip()
        assert refused in REFUSALS, f"{name} failed for a reason of its own: {ran}"
        assert not any(verdicts(ran, TESTED)), name
    nothing_stays(environment)


def test_nothing_stays(environment: Environment) -> None:
    """Nor lasts: its own time ends within a second of the deadline, and the folder goes whatever is in it."""
    lasts_nowhere(environment, STAYERS)


def test_nothing_is_used_up(environment: Environment) -> None:
    """Neither memory, nor the disk, nor the patience of whoever reads the answers."""
    if "private root" in environment.sandbox.layers and not ALL_MODES:
        pytest.skip("with namespaces, by RAYLIGN_ALL_MODES=1")
    lasts_nowhere(environment, HOGS)


def lasts_nowhere(environment: Environment, programs: dict[str, str]) -> None:
    where = "import os\nos.write(2, ('FOLDER ' + os.getcwd() + '\\n').encode())\n"
    started = time.process_time()
    for name, ran in environment.all({name: where + code for name, code in programs.items()}, TIMEOUT_S).items():
        if ran.reason is Ending.STARVED or ran.cleanup_s >= 1.0:
            # Three bombs share the processors, and ending one waits for them too: what they delayed is tried alone.
            ran = environment.run(where + programs[name], TIMEOUT_S)
        assert ran.reason is not Ending.STARVED and ran.cleanup_s < 1.0, (name, ran)
        assert not any(verdicts(ran, TESTED)), name
        assert "ESCAPED" not in ran.stdout and TOLD not in ran.stdout, name
        assert len(ran.stdout) + len(ran.stderr) <= environment.sandbox.config.limits.output_kb * 1024, name
        assert ran.seconds < TIMEOUT_S + 1.0, (name, ran)
        folder = ran.stderr.partition("FOLDER ")[2].partition("\n")[0]
        ended_unread = (Ending.ERROR, Ending.MEMORY, Ending.TIMEOUT)  # by the compiler, or while it read the source
        assert gone(folder) if folder else ran.reason in ended_unread, (name, ran)
    assert time.process_time() - started < 0.1 * len(programs), "the grader's own time"
    nothing_stays(environment)


def test_nothing_scores(environment: Environment) -> None:
    started = time.process_time()
    for name, ran in environment.all({**FORGERIES, **PATCHES}, 1.0).items():
        assert not any(verdicts(ran, TESTED)), (name, ran)
        assert ran.seconds < 2.0, (name, ran)
    assert time.process_time() - started < 0.1 * len({**FORGERIES, **PATCHES}), "the grader's own time"
    nothing_stays(environment)


@pytest.mark.parametrize("blanks", [" " * 60_000, " \t" * 30_000, "```" * 20_000, "``` " * 20_000, "```py " * 20_000])
def test_finding_the_code_costs_no_more_than_reading(blanks: str) -> None:
    started = time.process_time()
    assert code_of(f"```{blanks}", "f") == ""
    assert time.process_time() - started < 0.5


def test_a_full_folder_ends_the_program(environment: Environment) -> None:
    """In memory it gets an error; on a disk it is ended before the disk is full, or slow to empty."""
    for code in ("os.mkdir(str(n))", "open(str(n), 'w').write('x' * (1 << 18))"):
        ran = environment.run(f"import os\nfor n in range(10**6): {code}\nprint('ESCAPED')", timeout_s=20.0)
        assert ran.reason in (Ending.ERROR, Ending.OUTPUT_LIMIT) and "ESCAPED" not in ran.stdout, ran
        assert ran.reason is Ending.OUTPUT_LIMIT or "No space left" in ran.stderr, ran
    nothing_stays(environment)


def test_the_limit_on_processes_is_each_programs_own(environment: Environment) -> None:
    code = "import threading, time\nfor _ in range(6): threading.Thread(target=time.sleep, args=(0.4,)).start()"
    for ran in environment.all({str(number): code for number in range(4)}).values():
        assert ran.stderr == "", ran


def test_file_times_of_others_stay(environment: Environment) -> None:
    """A copy inside the scratch folder works, and nothing outside is touched."""
    before = (environment.folder / "outside").stat()
    code = "import os, shutil\nopen('a', 'w').write('x')\nprint(shutil.copy2('a', 'b'))\nos.utime('OUTSIDE')"
    ran = environment.run(code)
    assert ran.stdout == "b\n", ran
    assert (environment.folder / "outside").stat() == before


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
def test_the_reason_is_told(environment: Environment, code: str, reason: Ending) -> None:
    ran = environment.sandbox.run(Program(code=code, timeout_s=0.7 if reason is Ending.TIMEOUT else 20.0))
    assert ran.reason is reason, ran


def test_one_program_cannot_see_another(environment: Environment) -> None:
    """Two at once: scratch folders, processes and signals are their own."""
    watcher = "import os, time\nopen('mine', 'w').write('1')\ntime.sleep(1)\nprint(os.listdir('.'))\nprint('alive')"
    killer = (
        "import os\nfor pid in range(2, 40000):\n    try: os.kill(pid, 9)\n    except OSError: pass\nos.kill(-1, 9)"
    )
    results: list[Ran] = []
    thread = threading.Thread(
        target=lambda: results.append(environment.sandbox.run(Program(code=watcher, timeout_s=30.0)))
    )
    thread.start()
    environment.sandbox.run(Program(code=killer, timeout_s=20.0))
    thread.join()
    assert results[0].stdout == "['mine']\nalive\n", results
