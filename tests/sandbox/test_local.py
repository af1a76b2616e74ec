"""The local sandbox in ordinary use, and when it is itself in trouble."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from raylign.actors.sandbox.contract import Ending, Program, Ran, SandboxError
from raylign.actors.sandbox.local import LocalSandbox
from raylign.actors.sandbox.python_tool import PythonTool
from raylign.actors.sandbox.settings import Limits, Namespaces, SandboxConfig
from raylign.actors.sandbox.values import encode
from raylign.actors.sandbox.warden import FIRST_USER
from raylign.errors import ToolFailure
from raylign.isolation import examine
from raylign.kuberay.manifests import CAPABILITIES

MACHINE = examine()
pytestmark = pytest.mark.skipif(
    MACHINE is None or any(map(MACHINE.lacks, ("containment", "landlock", "seccomp"))),
    reason="this machine cannot isolate (raylign doctor says what is missing)",
)
SCRATCHES = Path(tempfile.gettempdir())
LONG = 30.0  # seconds: a deadline that a loaded machine meets


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LocalSandbox]:
    made = LocalSandbox(SandboxConfig(concurrency=3, packages=["numpy"], limits=Limits(timeout_s=LONG)))
    yield made
    made.close()


def test_input_files_and_output(sandbox: LocalSandbox) -> None:
    code = "import sys\nprint(input(), open('data/a.txt').read())\nprint('no', file=sys.stderr)"
    ran = sandbox.run(Program(code=code, stdin="öne\ntwo", files={"data/a.txt": "é".encode()}))
    assert (ran.stdout, ran.stderr, ran.exit, ran.reason) == ("öne é\n", "no\n", 0, Ending.OK)


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", ""])
def test_files_stay_in_the_scratch_folder(sandbox: LocalSandbox, name: str) -> None:
    with pytest.raises(ValueError, match="relative path"):
        sandbox.run(Program(code="", files={name: b""}))


def test_nothing_is_left_of_an_earlier_program(sandbox: LocalSandbox) -> None:
    first = "import json, os\njson.mine = 1\nopen('left', 'w').write('x')\nos.environ['LEFT'] = '1'"
    assert sandbox.run(Program(code=first)).reason is Ending.OK
    second = "import json, os\nprint(hasattr(json, 'mine'), os.listdir('.'), 'LEFT' in os.environ)"
    assert sandbox.run(Program(code=second)).stdout == "False [] False\n"


def test_packages_that_are_named_can_be_imported(sandbox: LocalSandbox) -> None:
    code = "import numpy.random, sqlite3, xml.dom.minidom\nprint(numpy.random.default_rng(0).random() > 0)"
    ran = sandbox.run(Program(code=code))
    assert ran.stdout == "True\n", ran.stderr
    assert "ModuleNotFoundError" in sandbox.run(Program(code="import torch")).stderr


def test_calls_are_answered_in_order(sandbox: LocalSandbox) -> None:
    calls = tuple(encode(arguments) for arguments in ([4, 2], [1, 0], ["a", 1]))
    ran = sandbox.run(Program(code="def f(a, b): return [a / b]", entry="f", calls=calls))
    assert ran.returned[0].value == encode([2.0])
    assert [answer.error for answer in ran.returned[1:]] == [
        "ZeroDivisionError: division by zero",
        "TypeError: unsupported operand type(s) for /: 'str' and 'int'",
    ]


def test_a_traceback_is_the_programs_own(sandbox: LocalSandbox) -> None:
    ran = sandbox.run(Program(code="def f():\n    return 1 / 0\nf()"))
    assert ran.reason is Ending.ERROR and "runner" not in ran.stderr
    assert 'File "<program>", line 2, in f' in ran.stderr and "return 1 / 0" in ran.stderr


def test_threads_and_exit_functions_are_waited_for(sandbox: LocalSandbox) -> None:
    code = """
import atexit, threading, time
atexit.register(print, "exit")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
"""
    assert sandbox.run(Program(code=code)).stdout == "thread\nexit\n"


async def test_several_at_once_and_no_more(sandbox: LocalSandbox) -> None:
    """Six programs, three at a time: each sees at most two others begin before it ends."""
    code = "import time\nprint(time.monotonic())\ntime.sleep(0.5)\nprint(time.monotonic())"
    ran = await asyncio.gather(*(sandbox.arun(Program(code=code)) for _ in range(6)))
    spans = [tuple(map(float, one.stdout.split())) for one in ran]
    at_once = [sum(start <= begin < end for start, end in spans) for begin, _ in spans]
    assert max(at_once) <= 3
    assert max(at_once) > 1


def test_a_zygote_that_died_is_replaced(sandbox: LocalSandbox) -> None:
    sandbox.run(Program(code=""))
    before = sandbox.pid
    os.kill(before, signal.SIGKILL)
    psutil.Process(before).wait(LONG)
    deadline, ran = time.monotonic() + LONG, None
    while ran is None and time.monotonic() < deadline:
        try:
            ran = sandbox.run(Program(code="print(1)"))
        except SandboxError:  # the socket may outlive the process by an instant
            time.sleep(0.05)
    assert ran is not None and ran.stdout == "1\n" and sandbox.pid != before


def test_a_closed_sandbox_ends_what_runs() -> None:
    made = LocalSandbox(SandboxConfig())
    made.run(Program(code=""))
    zygote = psutil.Process(made.pid)
    outcome: list[BaseException | Ran] = []

    def act() -> None:
        try:
            outcome.append(made.run(Program(code="import time\ntime.sleep(60)", timeout_s=2.0)))
        except SandboxError as error:
            outcome.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    while not zygote.children(recursive=True):
        time.sleep(0.01)
    family = zygote.children(recursive=True)
    made.close()
    thread.join()
    _, alive = psutil.wait_procs([zygote, *family], timeout=LONG)
    assert not alive and outcome


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has programs without namespaces")
@pytest.mark.parametrize("end", ["close", "kill the zygote"])
def test_an_end_in_the_middle_leaves_no_folder(end: str) -> None:
    made = LocalSandbox(SandboxConfig(namespaces=Namespaces.never))
    made.run(Program(code=""))
    code = "import time\nopen('f', 'w').close()\ntime.sleep(60)"

    def act() -> None:
        with contextlib.suppress(SandboxError):
            made.run(Program(code=code, timeout_s=1.0))

    thread, earlier = threading.Thread(target=act), set(SCRATCHES.glob("raylign-sandbox-*/f"))
    thread.start()
    while not (folders := set(SCRATCHES.glob("raylign-sandbox-*/f")) - earlier):
        time.sleep(0.01)
    made.close() if end == "close" else os.kill(made.pid, signal.SIGKILL)
    thread.join()
    deadline = time.monotonic() + LONG
    while any(path.parent.exists() for path in folders) and time.monotonic() < deadline:
        time.sleep(0.01)
    made.close()
    assert not any(path.parent.exists() for path in folders)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("capsh") is None, reason="needs root and capsh")
def test_docker_default_capabilities_suffice() -> None:
    """As in a container: root without CAP_SYS_ADMIN."""
    code = (
        "import json; from raylign.actors.sandbox.local import *; s = LocalSandbox(); "
        "print(json.dumps([s.layers, s.run(Program(code='print(7)')).stdout]))"
    )
    keep = "cap_chown,cap_dac_override,cap_fowner,cap_kill,cap_setgid,cap_setuid,cap_setpcap,cap_sys_chroot"
    drop = [name for name in _capabilities() if name not in keep.split(",")]
    script = f'exec {sys.executable} -c "{code}"'
    done = subprocess.run(
        ["capsh", f"--drop={','.join(drop)}", "--", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    layers, said = json.loads(done.stdout)
    assert said == "7\n" and "own user id" in layers and not any("namespaces" in layer for layer in layers)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("capsh") is None, reason="needs root and capsh")
def test_what_sandbox_pods_are_given_suffices() -> None:
    """``raylign k8s render --sandbox``: those capabilities alone, no new privileges, no namespaces."""
    code = (
        "import json; from raylign.actors.sandbox.local import *; s = LocalSandbox(); "
        "print(json.dumps([s.layers, s.run(Program(code='import os; print(os.getuid())')).stdout, "
        "s.run(Program(code='import os; os.fork(); [0 for _ in iter(int, 1)]', timeout_s=0.3)).reason]))"
    )
    keep = [f"cap_{name.lower()}" for name in CAPABILITIES] + ["cap_setpcap"]  # the last for capsh itself
    drop = [name for name in _capabilities() if name not in keep]
    script = f'exec setpriv --no-new-privs --bounding-set=-setpcap --inh-caps=-all {sys.executable} -c "{code}"'
    done = subprocess.run(
        ["capsh", f"--drop={','.join(drop)}", "--", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    layers, user, reason = json.loads(done.stdout)
    assert int(user) >= FIRST_USER and "own user id" in layers and reason == "timeout"
    assert not any("namespaces" in layer for layer in layers)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("capsh") is None, reason="needs root and capsh")
def test_a_missing_layer_is_an_error_that_names_it_and_the_fix() -> None:
    code = "from raylign.actors.sandbox.local import *; LocalSandbox().run(Program(code='print(7)'))"
    drop = ",".join(_capabilities())
    script = f'exec {sys.executable} -c "{code}"'
    done = subprocess.run(["capsh", f"--drop={drop}", "--", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "7" not in done.stdout
    assert "SandboxError" in done.stderr and "lacks containment" in done.stderr and "run as root" in done.stderr


def test_namespaces_can_be_required() -> None:
    made = LocalSandbox(SandboxConfig(namespaces=Namespaces.never, require=["namespaces"]))
    with pytest.raises(SandboxError, match=r"lacks namespaces.*SYS_ADMIN"):
        made.run(Program(code="print(1)"))
    with pytest.raises(SandboxError, match="lacks namespaces"):
        _ = made.layers


def test_mistakes_in_the_configuration() -> None:
    with pytest.raises(ValueError, match="is no layer; there are containment"):
        SandboxConfig(require=["selinux"])
    with pytest.raises(ValueError, match="concurrency=0"):
        SandboxConfig(concurrency=0)
    with pytest.raises(ValueError, match="memory_mb=-1 must be positive"):
        Limits(memory_mb=-1)
    with pytest.raises(SandboxError, match="nothere is not installed"):
        LocalSandbox(SandboxConfig(packages=["nothere"])).run(Program(code=""))


def test_the_users_files_are_not_taken_for_the_standard_library(tmp_path: Path) -> None:
    """One of these names starts a sandbox when it is imported: that would never end."""
    again = "from raylign.actors.sandbox.local import *\nLocalSandbox().run(Program(code=''))\n"
    for name in ("code", "test", "json", "queue", "turtle", "winreg", "fractions", "decimal"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write('{name} ')\n{again}")
    run = (
        "from raylign.actors.sandbox.local import *; from raylign.actors.sandbox.settings import *; "
        "p = Program(code='import code; print(code.__file__)'); "
        "print([LocalSandbox(SandboxConfig(namespaces=n)).run(p).stdout for n in Namespaces])"
    )
    starter = f"import sys; sys.path[:0] = {[entry for entry in sys.path if entry]!r}; "
    starter += f"import json, raylign.actors.sandbox.local; sys.path.insert(0, {str(tmp_path)!r}); "
    done = subprocess.run(
        [sys.executable, "-P", "-c", starter + run],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()
    assert done.stdout.count("code.py") == len(Namespaces) and str(tmp_path) not in done.stdout


async def test_the_python_tool(sandbox: LocalSandbox) -> None:
    tool = PythonTool(PythonTool.Config(longest=200), sandbox)
    assert (tool.name, tool.parameters["required"]) == ("python", ["code"])
    assert await tool.call({"code": "print(6 * 7)"}) == "42"
    assert await tool.call({"code": "x = 1"}) == "[no output]"
    assert (await tool.call({"code": "print(1)\n1 / 0"})).endswith("ZeroDivisionError: division by zero")
    assert "[... cut ...]" in await tool.call({"code": "print('x' * 9999)"})
    assert "too much output" in await tool.call({"code": "while True: print('x' * 99999)"})
    for wrong in ({}, {"code": 3}, {"code": "1", "more": 1}):
        with pytest.raises(ValueError, match="python takes one text"):
            await tool.call(wrong)
    broken = PythonTool(PythonTool.Config(sandbox=SandboxConfig(packages=["nothere"])))
    with pytest.raises(ToolFailure, match="nothere"):
        await broken.call({"code": "1"})


def _capabilities() -> list[str]:
    """Those that this process has, by name."""
    done = subprocess.run(["capsh", "--print"], capture_output=True, text=True, check=True)
    bounding = next(line for line in done.stdout.splitlines() if line.startswith("Bounding set"))
    return bounding.partition("=")[2].split(",")
