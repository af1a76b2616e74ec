"""A reward function in a killable child process: one child scores many items and is killed at the first timeout."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from raylign.actors.frames import receive_frame, send_frame
from raylign.actors.reward.outcome import Failed, FailureKind, Item, Outcome
from raylign.actors.reward.wire import pack_request, unpack_outcome
from raylign.actors.reward.zygote import FORK, READY
from raylign.errors import RewardError

START_S = 120.0  # imports of the function on a busy machine
FORK_S = 30.0
TICK_S = 0.01  # between two looks at a child's CPU time, at least


class IsolatedFunction:
    """The function behind a node, run in a child with a deadline for every item.

    Neither a hang in C code nor `os._exit` nor a segmentation fault reaches the caller. Not thread-safe. Start it in a
    thread that lives as long as it should: the kernel ends the children with the thread that made them.
    """

    def __init__(self, node: Mapping[str, Any], key: str) -> None:
        """Start the zygote and the first child. Raises RewardError when the function cannot be built."""
        self._spec = {"node": dict(node), "key": key, "parent": os.getpid()}
        self._control: socket.socket | None = None
        self._data: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._child = 0
        self.restarts = 0  # children replaced so far
        self._start()

    def score(self, item: Item, timeout_s: float, cpu_s: float | None = None) -> Outcome:
        """The values of one item, or why there are none.

        Past `timeout_s` seconds, or `cpu_s` seconds of its own CPU time, the child's group is killed.
        """
        if self._data is None:
            self._replace()
        assert self._data is not None
        deadline = time.monotonic() + timeout_s
        try:
            self._data.settimeout(timeout_s)
            send_frame(self._data, pack_request(item))
            if cpu_s is not None and not self._answers(deadline, cpu_s):
                self._kill_child()
                return Failed(kind=FailureKind.COSTLY, reason=f"more than {cpu_s:g} s of CPU time")
            return unpack_outcome(receive_frame(self._data, deadline))
        except TimeoutError:
            self._kill_child()
            return Failed(kind=FailureKind.TIMEOUT, reason=f"timeout after {timeout_s:g} s")
        except (EOFError, OSError):
            self._kill_child()
            return Failed(kind=FailureKind.DIED, reason="the reward function ended its process")
        except (ValueError, KeyError, TypeError) as error:
            self._kill_child()
            return Failed(kind=FailureKind.ERROR, reason=f"unreadable reply: {error}")

    def _answers(self, deadline: float, cpu_s: float) -> bool:
        """Wait for the reply or the deadline. False: the child has spent its CPU time without a reply."""
        assert self._data is not None
        clock = ((~self._child) << 3) | 2  # Linux's number of the CPU clock of a process
        until = time.clock_gettime(clock) + cpu_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                unspent_s = until - time.clock_gettime(clock)
            except OSError:  # it has ended, which reading its reply will tell
                return True
            if unspent_s <= 0:
                return bool(select.select([self._data], [], [], 0)[0])
            # One thread cannot spend more CPU time than passes.
            if select.select([self._data], [], [], min(left_s, max(unspent_s, TICK_S)))[0]:
                return True
        return True

    def renew(self) -> None:
        """Have the next item meet a fresh child."""
        self._kill_child()

    def close(self) -> None:
        """End the child and the zygote."""
        self._kill_child()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pids(self) -> tuple[int, int]:
        """Zygote and child."""
        return (self._process.pid if self._process else 0, self._child)

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        # The child of a Ray worker must find what the worker finds: Ray adds the job's packages to sys.path only.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "raylign.actors.reward.zygote", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        theirs.close()
        try:
            send_frame(self._control, pack_request(self._spec))
            answer = receive_frame(self._control, time.monotonic() + START_S)
            self._control.settimeout(None)
        except (EOFError, OSError) as error:
            self.close()
            raise RewardError(f"{self._spec['key']}: the child process did not start ({error!r})") from error
        if answer != READY:
            self.close()
            raise RewardError(f"{self._spec['key']}: {answer.decode()}")
        self._fork()

    def _replace(self) -> None:
        self.restarts += 1
        try:
            self._fork()
        except (EOFError, OSError, RewardError):  # the zygote went down as well
            self.close()
            self._start()

    def _fork(self) -> None:
        assert self._control is not None
        self._control.settimeout(FORK_S)
        self._control.sendall(FORK)
        pid, descriptors, _, _ = socket.recv_fds(self._control, 8, 1)
        if not descriptors:
            raise RewardError(f"{self._spec['key']}: the zygote is gone")
        self._control.settimeout(None)
        self._child = int.from_bytes(pid, "little")
        self._data = socket.socket(fileno=descriptors[0])

    def _kill_child(self) -> None:
        if self._data is not None:
            self._data.close()
            self._data = None
        if self._child:
            # The zygote reaps it only before the next fork, so the number cannot belong to another process yet.
            for kill in (os.killpg, os.kill):  # the group exists once the child has called setsid
                with contextlib.suppress(ProcessLookupError):
                    kill(self._child, signal.SIGKILL)
            self._child = 0
