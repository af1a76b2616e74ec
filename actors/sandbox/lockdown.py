"""From a trusted fork to a process that can do nothing but compute: every layer, in the order that works."""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import dataclass
from math import ceil

from raylign import kernel
from raylign.actors.sandbox import landlock
from raylign.actors.sandbox.layout import DEVICES
from raylign.isolation import Isolation

MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one program is given.

    Example: ``Cell(isolation=..., user=2000000123, scratch="/scratch", readable=("/usr/lib",), seccomp=b"...", ...)``
    """

    isolation: Isolation
    user: int  # user and group id; used where the isolation has `uid`
    scratch: str
    readable: tuple[str, ...]
    seccomp: bytes
    timeout_s: float
    memory: int  # bytes of address space, the interpreter's own included
    processes: int
    open_files: int
    file_mb: int
    scratch_mb: int


def lock_down(cell: Cell) -> None:
    """Apply everything to this process. Raises OSError or ValueError: the process must then end.

    Landlock opens its paths while it still may (an interpreter under /root is out of reach for another user), and is
    allowed to before the user changes because no_new_privs is set.
    """
    if cell.isolation.namespaces and not cell.isolation.uid:
        # Processes are counted per user and user namespace. Before the limits: that on processes would else count, in
        # the outer namespace, those of the programs beside this one, too.
        kernel.unshare(kernel.CLONE_NEWUSER)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    os.chdir(cell.scratch)
    os.umask(0o077)
    set_limits(cell)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if cell.isolation.landlock:
        landlock.restrict(cell.readable, (cell.scratch,), DEVICES)
    if cell.isolation.uid:
        os.setgroups([])
        os.setresgid(cell.user, cell.user, cell.user)
        os.setresuid(cell.user, cell.user, cell.user)
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # changing the user cleared it
    if cell.isolation.seccomp:
        kernel.install_seccomp(cell.seccomp)


def cpu_seconds(timeout_s: float) -> int:
    """The limit on processor time: a second over the deadline, which ends what dodges the deadline."""
    return ceil(timeout_s) + 1


def set_limits(cell: Cell) -> None:
    """Limits that only shrink from here on."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: cell.memory,
        resource.RLIMIT_CPU: cpu_seconds(cell.timeout_s),
        resource.RLIMIT_FSIZE: cell.file_mb * MEGABYTE,
        resource.RLIMIT_NOFILE: cell.open_files,
        resource.RLIMIT_NPROC: cell.processes,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: 64,
    }
    for name, value in limits.items():
        hard = resource.getrlimit(name)[1]
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (wanted, wanted))
