"""The files that a program may touch, as a Landlock ruleset; no TCP, no signals and no abstract sockets across it."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

from raylign import kernel

READ_FILE, READ_DIR, WRITE_FILE, EXECUTE = 0x4, 0x8, 0x2, 0x1
REMOVE, MAKE_DIR, MAKE_FILE, MAKE_LINK, REFER, TRUNCATE = 0x30, 0x80, 0x100, 0x1000, 0x2000, 0x4000
SCRATCH = READ_FILE | READ_DIR | WRITE_FILE | REMOVE | MAKE_DIR | MAKE_FILE | MAKE_LINK | REFER | TRUNCATE
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | 0x8000  # rights that a rule on a plain file may name
BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # file rights that each ABI knows; 16 later on
NETWORK, SCOPES = 0x3, 0x3  # bind and connect by TCP (ABI 4); abstract sockets and signals (ABI 6)
NETWORK_ABI, SCOPES_ABI = 4, 6


def restrict(readable: Iterable[str], writable: Iterable[str], devices: Iterable[str]) -> None:
    """Bind this process to the lists. A path that does not exist is left out. Raises OSError."""
    abi = kernel.landlock_abi()
    known = (1 << BITS.get(abi, 16)) - 1
    attributes = struct.pack("=Q", known)
    if abi >= NETWORK_ABI:
        attributes += struct.pack("=Q", NETWORK)
    if abi >= SCOPES_ABI:
        attributes += struct.pack("=Q", SCOPES)
    ruleset = kernel.landlock_ruleset(attributes)
    rules = ((readable, READ_FILE | READ_DIR), (writable, SCRATCH), (devices, READ_FILE | WRITE_FILE))
    for paths, access in rules:
        for path in paths:
            _allow(ruleset, path, access & known)
    kernel.landlock_restrict(ruleset)
    os.close(ruleset)


def described() -> str:
    """What the kernel's ABI covers, for people."""
    abi = kernel.landlock_abi()
    covered = ["files"] + ["TCP"] * (abi >= NETWORK_ABI) + ["signals, abstract sockets"] * (abi >= SCOPES_ABI)
    return f"landlock {abi} ({', '.join(covered)})"


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        folder = os.path.isdir(path)
        kernel.landlock_allow(ruleset, access if folder else access & ON_FILES, parent)
    finally:
        os.close(parent)
