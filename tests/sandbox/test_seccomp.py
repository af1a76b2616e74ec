"""The filter, run by hand for both processors: also where the kernel here would refuse by itself."""

from __future__ import annotations

import errno
import struct

import pytest

from raylign.actors.sandbox import seccomp
from raylign.actors.sandbox.seccomp import ALLOW, ARCHITECTURE, ERRNO, KILL, REFUSED

EPERM, FAR = ERRNO | errno.EPERM, 1 << 32  # an address whose lower half is 0
ROWS = {"x86_64": 0, "aarch64": 1}


@pytest.fixture(params=list(ROWS))
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(seccomp, "machine", lambda: request.param)
    return str(request.param)


def verdict(processor: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter returns for a call."""
    arch = ARCHITECTURE[processor] if architecture is None else architecture
    data = struct.pack("=iIQ6Q", number, arch, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    code = list(struct.iter_unpack("=HBBI", seccomp.program()))
    held, at = 0, 0
    while True:
        operation, true, false, value = code[at]
        at += 1
        if operation == seccomp.RETURN:
            return int(value)
        if operation == seccomp.LOAD:
            held = struct.unpack_from("=I", data, value)[0]
        elif operation == seccomp.AND:
            held &= value
        else:
            tests = {seccomp.EQUAL: held == value, seccomp.AT_LEAST: held >= value, seccomp.ANY_BIT: bool(held & value)}
            at += true if tests[operation] else false


def test_calls_that_are_refused(processor: str) -> None:
    for name, row in REFUSED.items():
        number = row[ROWS[processor]]
        if number is not None:
            assert verdict(processor, number) in (EPERM, ERRNO | errno.ENOSYS), name
    for number in (435, 442, 462, 10_000, 1 << 30):
        assert verdict(processor, number) == ERRNO | errno.ENOSYS
    assert verdict(processor, 0, architecture=0x40000003) == KILL


def test_no_message_names_a_receiver(processor: str) -> None:
    send = seccomp.SENDTO[processor]
    assert verdict(processor, send, 5, 1, 1, 0, 0, 0) == ALLOW
    for address in (1, FAR, FAR | 1, FAR << 16):
        assert verdict(processor, send, 5, 1, 1, 0, address, 16) == EPERM, hex(address)


def test_pairs_are_connected_streams(processor: str) -> None:
    pair, flags = seccomp.SOCKETPAIR[processor], (0, 0o4000, 0o2000000)
    for flag in flags:
        assert verdict(processor, pair, 1, 1 | flag) == ALLOW
        assert verdict(processor, pair, 1 | FAR, 1 | flag | FAR) == ALLOW  # the kernel reads the lower halves
        for family, kind in ((1, 2), (1, 5), (1, 3), (1, 0), (2, 1), (40, 1), (0, 1)):
            assert verdict(processor, pair, family, kind | flag) == EPERM, (family, kind)


def test_options_commands_and_clones(processor: str) -> None:
    control, command, clone = (table[processor] for table in (seccomp.PRCTL, seccomp.FCNTL, seccomp.CLONE))
    assert [verdict(processor, control, option) for option in (1, 36, 62)] == [EPERM] * 3
    assert [verdict(processor, control, option) for option in (15, 38, 22)] == [ALLOW] * 3
    assert [verdict(processor, command, 3, argument) for argument in (1024, 1026, FAR | 1024)] == [EPERM] * 3
    assert [verdict(processor, command, 3, argument) for argument in (0, 1, 3, 4, 6, 1030, 1031)] == [ALLOW] * 7
    for flag in (1 << 17, 1 << 15, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30):
        assert verdict(processor, clone, flag | 17) == EPERM, hex(flag)
    assert verdict(processor, clone, 0x3D0F00) == ALLOW  # a thread
