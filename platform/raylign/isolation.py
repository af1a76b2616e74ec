"""Which layers of isolation this machine can give to untrusted code, tried out in children that end at once.

``python -m raylign.isolation`` prints them as JSON. A sandbox has still to apply them; what it could not apply is its
error.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from raylign import kernel
from raylign.interpreter import command

PROBE_S = 60.0
SECCOMP_ALLOW = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)  # one instruction: return SECCOMP_RET_ALLOW
PROBE_UID = 60000
REQUIRED = ("containment", "landlock", "seccomp")  # what a sandbox asks for unless told otherwise
FIXES = {
    "containment": "run as root (docker run --user 0; raylign k8s render --sandbox), or allow unprivileged user "
    "namespaces "
    "(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)",
    "uid": "run as root with CAP_SETUID, CAP_SETGID and CAP_KILL (Docker's default set has them)",
    "landlock": "needs Linux 5.13 with landlock in /sys/kernel/security/lsm, and a container profile that lets the "
    "landlock calls through (Docker 23 and newer do)",
    "seccomp": "needs a kernel with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64",
    "namespaces": "docker run --cap-add SYS_ADMIN --security-opt apparmor=unconfined, or user namespaces",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What can be applied here.

    Example: ``Isolation(uid=True, user_namespace=False, namespaces=True, landlock=7, seccomp=True)``
    """

    uid: bool  # a user id of its own for each program
    user_namespace: bool  # an unprivileged user may make namespaces
    namespaces: bool  # mount, pid, network, ipc
    landlock: int  # ABI; 0 = none
    seccomp: bool

    def lacks(self, layer: str) -> bool:
        """Whether a layer (a key of `FIXES`) cannot be had."""
        given = {
            "containment": self.uid or self.namespaces,
            "uid": self.uid,
            "landlock": self.landlock > 0,
            "seccomp": self.seccomp,
            "namespaces": self.namespaces,
        }
        return not given[layer]


def probe() -> Isolation:
    """Try everything in this process's children. For a process with one thread; others call `examine`."""
    root = os.geteuid() == 0
    user = not root and succeeds(lambda: kernel.unshare(kernel.CLONE_NEWUSER))
    return Isolation(
        uid=root and succeeds(_change_user),
        user_namespace=user,
        namespaces=(root or user) and succeeds(lambda: _namespaces(user)),
        landlock=kernel.landlock_abi(),
        seccomp=succeeds(_seccomp),
    )


def examine() -> Isolation | None:
    """`probe` in a process of its own; None where that fails (no Linux)."""
    try:
        done = subprocess.run(
            command("raylign.isolation"),
            capture_output=True,
            timeout=PROBE_S,
            check=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )
        return Isolation(**json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def succeeds(act: Callable[[], None]) -> bool:
    """Whether `act` raises nothing in a forked child."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _change_user() -> None:
    os.setgroups([])
    os.setresgid(PROBE_UID, PROBE_UID, PROBE_UID)
    os.setresuid(PROBE_UID, PROBE_UID, PROBE_UID)


def _namespaces(user: bool) -> None:
    flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC
    kernel.unshare(flags | (kernel.CLONE_NEWUSER if user else 0))
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", str(Path("/tmp").resolve()), "tmpfs")  # seen by nobody else


def _seccomp() -> None:
    kernel.machine()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.install_seccomp(SECCOMP_ALLOW)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(probe())))
