"""The process that a worker's children are forked from: it has imported everything and built the function, and waits.

``worker --control--> zygote --fork--> child <--data--> worker``. A killed child is replaced in milliseconds instead of
the seconds that importing costs. Run as ``python -m raylign.actors.reward.zygote <control fd>``.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
from typing import NoReturn

from raylign.actors.frames import receive_frame, send_frame
from raylign.actors.reward.outcome import Outcome, checked, describe_error, failed
from raylign.actors.reward.wire import pack_outcome, unpack_request
from raylign.config.build import build
from raylign.contracts import RewardFunction

FORK = b"F"
READY = b"ready"
PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; at once when it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def judged(function: RewardFunction, payload: bytes) -> Outcome:
    """The outcome of one request; whatever the function raises is part of it."""
    try:
        prompt, trajectories = unpack_request(payload)
        return checked(function.score(prompt, trajectories), trajectories)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - becomes the outcome
        return failed(error)


def main() -> None:
    """Build the function that the worker names, say so, then fork a child for every request."""
    control = socket.socket(fileno=int(sys.argv[1]))
    spec = unpack_request(receive_frame(control))
    die_with(spec["parent"])
    try:
        function = build(RewardFunction, spec["node"], spec["key"])
    except Exception as error:
        send_frame(control, describe_error(error).encode())
        raise
    gc.freeze()  # keeps the pages of what is loaded shared with the children
    send_frame(control, READY)
    while control.recv(1) == FORK:
        _reap()
        _fork(control, function)


def _fork(control: socket.socket, function: RewardFunction) -> None:
    ours, theirs = socket.socketpair()
    zygote = os.getpid()
    pid = os.fork()
    if pid == 0:
        control.close()
        theirs.close()
        _serve(ours, function, zygote)
    ours.close()
    socket.send_fds(control, [pid.to_bytes(8, "little")], [theirs.fileno()])
    theirs.close()


def _serve(connection: socket.socket, function: RewardFunction, zygote: int) -> NoReturn:
    os.setsid()  # a process group of its own, so that the worker's kill takes its children too
    die_with(zygote)
    try:
        while True:
            payload = receive_frame(connection)
            send_frame(connection, pack_outcome(judged(function, payload)))
    except (EOFError, OSError):
        os._exit(0)  # the worker is done with this child
    finally:
        os._exit(1)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main()
