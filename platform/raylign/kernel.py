"""Linux calls that Python has no function for, by ctypes: prctl, unshare, mount, capset, Landlock."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 22, 36, 38
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER = 0x00020000, 0x04000000, 0x08000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
LANDLOCK_VERSION_FLAG = 1
CAPABILITY_V3 = 0x20080522
CAPSET = {"x86_64": 126, "aarch64": 91}
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def machine() -> str:
    """``x86_64`` or ``aarch64``. Raises OSError on another processor: its call numbers are not known here."""
    name = platform.machine()
    if name not in CAPSET:
        raise OSError(f"no system call numbers for {name}; known are {', '.join(CAPSET)}")
    return name


def prctl(option: int, argument: int, pointer: object = 0) -> None:
    """Raises OSError."""
    _checked(_libc.prctl(option, ctypes.c_ulong(argument), pointer, 0, 0), "prctl")


def unshare(flags: int) -> None:
    """Raises OSError."""
    _checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Raises OSError that names the target."""
    done = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _checked(done, f"mount {target}")


def change_root(folder: str) -> None:
    """Make a mount point the root of this mount namespace and let go of the old one. Raises OSError."""
    os.chdir(folder)
    _checked(_libc.syscall(ctypes.c_long(PIVOT_ROOT[machine()]), b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir("/")


def drop_capabilities() -> None:
    """Give up every capability of this thread. Raises OSError."""
    header = struct.pack("=Ii", CAPABILITY_V3, 0)
    _checked(_libc.syscall(ctypes.c_long(CAPSET[machine()]), header, bytes(24)), "capset")


def landlock_abi() -> int:
    """The version of Landlock that the kernel offers; 0 when it has none or a filter hides it."""
    version = _libc.syscall(
        ctypes.c_long(LANDLOCK_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint32(LANDLOCK_VERSION_FLAG)
    )
    return max(0, int(version))


def landlock_ruleset(attributes: bytes) -> int:
    """A descriptor of a new ruleset. Raises OSError."""
    descriptor = _libc.syscall(
        ctypes.c_long(LANDLOCK_CREATE), attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )
    return _checked(descriptor, "landlock_create_ruleset")


def landlock_allow(ruleset: int, access: int, parent: int) -> None:
    """Allow `access` to everything beneath the open descriptor `parent`. Raises OSError."""
    rule = struct.pack("=Qi", access, parent)
    done = _libc.syscall(ctypes.c_long(LANDLOCK_ADD), ruleset, ctypes.c_int(1), rule, ctypes.c_uint32(0))
    _checked(done, "landlock_add_rule")


def landlock_restrict(ruleset: int) -> None:
    """Bind this thread, and all that it starts, to the ruleset for ever. Raises OSError."""
    _checked(_libc.syscall(ctypes.c_long(LANDLOCK_RESTRICT), ruleset, ctypes.c_uint32(0)), "landlock_restrict_self")


def install_seccomp(program: bytes) -> None:
    """Bind this thread to a BPF program (8 bytes an instruction) for ever; needs no_new_privs. Raises OSError."""
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    prctl(PR_SET_SECCOMP, 2, header)


def _checked(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return int(result)
