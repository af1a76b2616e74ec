"""The trusted process beside each program: makes its cell, forks it, waits, and leaves nothing of it alive.

With a pid namespace the program is its first process, and the kernel ends all others with it. Without one, every
process with the program's user id is killed, as that user, by one ``kill(-1)``, which the kernel does in one go: no
fork bomb outruns it. Orphans come to the warden (it is their subreaper), so that "no child left" proves that none
remains, whatever sessions and groups they made for themselves.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from raylign import kernel
from raylign.actors.frames import receive_frame, send_frame
from raylign.actors.sandbox.clock import Clock
from raylign.actors.sandbox.layout import SCRATCH, mount_scratch
from raylign.actors.sandbox.lockdown import MEGABYTE, Cell, cpu_seconds, lock_down
from raylign.actors.sandbox.removal import remove_tree
from raylign.actors.sandbox.runner import run
from raylign.actors.sandbox.usage import overfull
from raylign.isolation import Isolation

READY = b"ready"
STOP = b"K"  # from the parent: end the program
REAP_S = 10.0
PATIENCE_S = 0.5  # the verdict waits no longer for the folder to be gone: some disks need milliseconds for each
FIRST_USER, USERS = 2_000_000_000, 1 << 22  # one id per warden, by its pid: Linux has at most 2**22 of these


@dataclass(frozen=True, slots=True, kw_only=True)
class Warding:
    """What all programs of a sandbox share.

    Example: ``Warding(isolation=..., readable=("/usr/lib",), seccomp=b"...", own_memory=40 << 20, limits={...})``
    """

    isolation: Isolation
    readable: tuple[str, ...]
    seccomp: bytes
    own_memory: int  # bytes of address space that the zygote has itself
    limits: dict[str, float]
    users: tuple[int, int]  # first id, number of ids
    proc: int  # descriptor of /proc, which a private root does not show


def user_ids() -> tuple[int, int]:
    """Ids for programs: a range that nobody uses; in a user namespace that maps few, its upper half."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        inside, _, count = map(int, line.split())
        if inside <= FIRST_USER and inside + count >= FIRST_USER + USERS:
            return FIRST_USER, USERS
        if count > 1:
            return inside + count // 2, count - count // 2
    return os.getuid(), 1


def guard(job: socket.socket, descriptors: list[int], warding: Warding) -> NoReturn:
    """Serve one request and exit. descriptors: standard output, standard error, replies.

    It outlives the zygote and the parent by what it takes to end the program and to remove its folder: it sees the
    job's socket close.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    scratch = ""
    try:
        request = json.loads(receive_frame(job))
        first, count = warding.users
        user = first + os.getpid() % count
        scratch = _prepare(request["files"], user, warding)
        result = _supervised(job, descriptors, request, _cell(request, user, scratch, warding), warding.proc)
    except (OSError, ValueError, KeyError) as error:
        result = {"failed": f"{type(error).__name__}: {error}"}
    with ThreadPoolExecutor(1) as threads:
        removal = threads.submit(remove_tree, scratch) if scratch and scratch != SCRATCH else None
        if removal is not None:
            with contextlib.suppress(TimeoutError):
                if remains := removal.exception(PATIENCE_S):
                    result = {"failed": f"the program's folder remains: {remains}"}
        with contextlib.suppress(OSError):  # the parent has gone
            send_frame(job, json.dumps(result).encode())
    if removal is not None:
        removal.result()  # raises, for the zygote's standard error, what came too late to be told
    os._exit(0)


def _cell(request: dict[str, Any], user: int, scratch: str, warding: Warding) -> Cell:
    limits = warding.limits
    return Cell(
        isolation=warding.isolation,
        user=user,
        scratch=scratch,
        readable=warding.readable,
        seccomp=warding.seccomp,
        timeout_s=request["timeout_s"],
        memory=warding.own_memory + request["memory_mb"] * MEGABYTE,
        processes=int(limits["processes"]),
        open_files=int(limits["open_files"]),
        file_mb=int(limits["file_mb"]),
        scratch_mb=int(limits["scratch_mb"]),
    )


def _prepare(files: dict[str, str], user: int, warding: Warding) -> str:
    """The scratch folder, filled; with namespaces it is a file system that goes with the warden."""
    owner, group = (user, user) if warding.isolation.uid else (os.getuid(), os.getgid())
    if warding.isolation.namespaces:
        kernel.unshare(kernel.CLONE_NEWNS)
        mount_scratch(int(warding.limits["scratch_mb"]), owner, group)
        scratch = SCRATCH
    else:
        scratch = tempfile.mkdtemp(prefix="raylign-sandbox-")
        os.chown(scratch, owner, group)
    for name, content in files.items():
        path = Path(scratch, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(content))
        for made in (path, *path.parents):
            if made == Path(scratch):
                break
            os.chown(made, owner, group)
    return scratch


def _supervised(
    job: socket.socket, descriptors: list[int], request: dict[str, Any], cell: Cell, proc: int
) -> dict[str, Any]:
    stdin = os.memfd_create("stdin")
    os.write(stdin, request["stdin"].encode(errors="surrogatepass"))
    os.lseek(stdin, 0, os.SEEK_SET)
    listen, ready = os.pipe()
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    if cell.isolation.namespaces:
        kernel.unshare(kernel.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        _become([stdin, *descriptors, ready], request, cell)  # closes everything else
    for descriptor in (stdin, ready, *descriptors):
        os.close(descriptor)
    said = _all(listen)
    clock = Clock(child, proc, request["timeout_s"])
    late, full = _wait(job, child, clock, cell) if said == READY else (False, False)
    seconds = clock.spent()
    starved = late and clock.starved(seconds)
    ended = time.monotonic()
    status, cpu = _end(child, cell)
    if said != READY:
        return {"failed": said.decode(errors="replace") or "the program's process ended before it was locked"}
    late = late or cpu >= cpu_seconds(request["timeout_s"])
    return {
        "status": status,
        "late": late,
        "full": full,
        "starved": starved,
        "seconds": seconds,
        "cleanup_s": time.monotonic() - ended,
    }


def _wait(job: socket.socket, child: int, clock: Clock, cell: Cell) -> tuple[bool, bool]:
    """Until the program ends, the parent wants its end, its time is over (late), or its folder is too full."""
    handle = os.pidfd_open(child)
    try:
        while left := clock.look():
            if select.select([handle, job.fileno()], [], [], left)[0]:
                return False, False
            if not cell.isolation.namespaces and overfull(cell.scratch, cell.scratch_mb * MEGABYTE):
                return False, True
        return True, False
    finally:
        os.close(handle)


def _end(child: int, cell: Cell) -> tuple[int, float]:
    """Kill the program and all that it started, and wait until none is left: its status, its seconds of CPU time."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, raw, usage = os.wait4(child, 0)
    deadline = time.monotonic() + REAP_S
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return os.waitstatus_to_exitcode(raw), usage.ru_utime + usage.ru_stime
        _kill_all_of(cell.user)  # never reached with a pid namespace: the kernel has ended and reaped all
        if time.monotonic() > deadline:
            raise OSError(f"processes of user {cell.user} survive SIGKILL")
        time.sleep(0.001)


def _kill_all_of(user: int) -> None:
    killer = os.fork()
    if killer == 0:
        try:
            os.setresuid(user, user, user)
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            os._exit(0)
        finally:
            os._exit(1)
    os.waitpid(killer, 0)


def _become(descriptors: list[int], request: dict[str, Any], cell: Cell) -> NoReturn:
    """In the child: descriptors 0 to 3 are the program's, 4 tells the warden that every layer holds."""
    try:
        high = [os.dup2(descriptor, 100 + number) for number, descriptor in enumerate(descriptors)]
        for number, descriptor in enumerate(high):
            os.dup2(descriptor, number)
        os.closerange(len(high), 1 << 16)
        os.environ.clear()
        os.environ.update(HOME=cell.scratch, TMPDIR=cell.scratch, PATH="/nowhere", LANG="C.UTF-8")
        lock_down(cell)
    except BaseException as error:  # noqa: BLE001 - said to the warden, and the process ends
        os.write(len(descriptors) - 1, f"a layer could not be applied: {type(error).__name__}: {error}".encode())
        os._exit(1)
    os.write(4, READY)
    os.close(4)
    try:
        run(request["code"], request["entry"], request["calls"], 3)
    finally:
        os._exit(1)


def _all(descriptor: int) -> bytes:
    pieces = []
    while piece := os.read(descriptor, 4096):
        pieces.append(piece)
    os.close(descriptor)
    return b"".join(pieces)
