"""The sandbox of this machine: a zygote, and as many programs at once as `concurrency` allows."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from raylign.actors.frames import receive_frame, send_frame
from raylign.actors.sandbox.clock import wall_seconds
from raylign.actors.sandbox.contract import Ending, Program, Ran, Returned, Sandbox, SandboxError
from raylign.actors.sandbox.runner import OUT_OF_MEMORY
from raylign.actors.sandbox.settings import SandboxConfig
from raylign.actors.sandbox.warden import STOP
from raylign.interpreter import command

START_S = 120.0  # imports on a busy machine
GRACE_S = 30.0  # from a program's wall limit to the warden's report, on a busy machine
SIGXCPU = 24


class LocalSandbox(Sandbox):
    """Programs in processes of this machine, isolated by its kernel; see `layers`.

    Safe to call from several threads. The zygote starts with the first program, and again should it die.
    """

    Config = SandboxConfig

    def __init__(self, config: SandboxConfig | None = None) -> None:
        self.config = config or SandboxConfig()
        self.concurrency = self.config.concurrency
        self._slots = threading.BoundedSemaphore(self.concurrency)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._layers: tuple[str, ...] = ()
        self._jobs: set[socket.socket] = set()

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers in force. Raises SandboxError that names a required one that is missing, and the fix."""
        with self._lock:
            self._started()
        return self._layers

    def run(self, program: Program) -> Ran:
        """Run a program; past its deadline it and all its processes are killed. Raises SandboxError, ValueError."""
        request, timeout_s = self._request(program)
        with self._slots:
            job, streams = self._submit()
            self._jobs.add(job)
            try:
                send_frame(job, request)
                return self._collect(job, streams, timeout_s, len(program.calls))
            except (OSError, EOFError) as error:
                raise SandboxError(f"the sandbox gave no result: {type(error).__name__} {error}") from error
            finally:
                self._jobs.discard(job)
                job.close()  # the warden ends what still runs
                for stream in streams:
                    os.close(stream)

    def close(self) -> None:
        """End the zygote, and what runs: a warden ends its program, and tidies up, when its job's socket closes."""
        for job in tuple(self._jobs):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                job.shutdown(socket.SHUT_RDWR)
        with self._lock:
            if self._control is not None:
                self._control.close()
                self._control = None
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._process = None
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None

    @property
    def pid(self) -> int:
        """The zygote; 0 before the first program."""
        return self._process.pid if self._process else 0

    def _request(self, program: Program) -> tuple[bytes, float]:
        for name in program.files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(f"files[{name!r}] must be a relative path inside the scratch folder")
        limits = self.config.limits
        timeout_s = limits.timeout_s if program.timeout_s is None else program.timeout_s
        request = {
            "code": program.code,
            "stdin": program.stdin,
            "files": {name: base64.b64encode(content).decode() for name, content in program.files.items()},
            "timeout_s": timeout_s,
            "memory_mb": limits.memory_mb if program.memory_mb is None else program.memory_mb,
            "entry": program.entry,
            "calls": list(program.calls),
        }
        return json.dumps(request).encode(), timeout_s

    def _submit(self) -> tuple[socket.socket, list[int]]:
        """Hand a job to the zygote: our end of its socket, and the streams to read (output, error, replies)."""
        ours, theirs = socket.socketpair()
        pipes = [os.pipe() for _ in range(3)]
        try:
            with self._lock:
                control = self._started()
                socket.send_fds(control, [b"J"], [theirs.fileno(), *(write for _, write in pipes)])
        except (OSError, SandboxError) as error:
            ours.close()
            for read, _ in pipes:
                os.close(read)
            if isinstance(error, SandboxError):
                raise
            raise SandboxError(f"the sandbox's zygote is gone: {error}") from error
        finally:
            theirs.close()
            for _, write in pipes:
                os.close(write)
        return ours, [read for read, _ in pipes]

    def _started(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None and self._control is not None:
            self._control.close()
            self._control = self._process = None
        if self._control is None:
            self._control = self._start()
        return self._control

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        root = tempfile.mkdtemp(prefix="raylign-sandbox-root-")
        self._process = subprocess.Popen(
            command("raylign.actors.sandbox.zygote", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        )
        theirs.close()
        settings = {
            "packages": list(self.config.packages),
            "require": list(self.config.require),
            "namespaces": self.config.namespaces.value,
            "limits": asdict(self.config.limits),
            "root": root,
        }
        try:
            send_frame(ours, json.dumps(settings).encode())
            answer = json.loads(receive_frame(ours, time.monotonic() + START_S))
            ours.settimeout(None)
        except (OSError, EOFError, ValueError) as error:
            answer = {"error": f"the zygote did not start ({type(error).__name__} {error})"}
        finally:
            with contextlib.suppress(OSError):
                os.rmdir(root)  # a mount point in the zygote's namespace only
        if "error" in answer:
            ours.close()
            self._process.kill()
            self._process.wait()
            self._process = None
            raise SandboxError(str(answer["error"]))
        self._layers = tuple(answer["layers"])
        return ours

    def _collect(self, job: socket.socket, streams: list[int], timeout_s: float, calls: int) -> Ran:
        """Read all streams up to their limits until the warden reports and they are at their ends."""
        output, errors, replies = streams
        taken: dict[int, bytearray] = {stream: bytearray() for stream in streams}
        limits = self.config.limits
        room = {output: limits.output_kb * 1024, replies: limits.returned_kb * 1024}
        open_streams, excess = set(streams), False
        poll = select.poll()  # select() ends at descriptor 1023, which a busy worker passes
        for stream in streams:
            poll.register(stream, select.POLLIN)
        deadline = time.monotonic() + wall_seconds(timeout_s) + GRACE_S
        while open_streams:
            left = deadline - time.monotonic()
            ready = poll.poll(max(0.0, left) * 1000)
            if not ready:
                raise TimeoutError(f"no end {GRACE_S:g} s after the wall limit")
            for stream, _ in ready:
                piece = os.read(stream, 1 << 16)
                if not piece:
                    open_streams.discard(stream)
                    poll.unregister(stream)
                    continue
                shared = output if stream == errors else stream
                taken[stream] += piece[: max(0, room[shared])]
                room[shared] -= min(len(piece), room[shared] + 1)
                if room[shared] < 0 and not excess:
                    excess = True
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has ended meanwhile
                        job.sendall(STOP)
        result = json.loads(receive_frame(job, deadline))
        if "failed" in result:
            raise SandboxError(result["failed"])
        status = int(result["status"])
        return Ran(
            stdout=taken[output].decode(errors="replace"),
            stderr=taken[errors].decode(errors="replace"),
            exit=status,
            reason=Ending.STARVED
            if result["starved"] and not excess
            else _reason(status, bool(result["late"]), excess or bool(result["full"])),
            seconds=float(result["seconds"]),
            cleanup_s=float(result["cleanup_s"]),
            returned=_returned(bytes(taken[replies]), calls + 1),
        )


def _environment() -> dict[str, str]:
    """Nothing of the caller's environment, which holds its secrets."""
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONHASHSEED": "0",  # a program that prints a set prints the same every time
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "LANG": "C.UTF-8",
    }


def _reason(status: int, late: bool, excess: bool) -> Ending:
    if excess:
        return Ending.OUTPUT_LIMIT
    if late or status == -SIGXCPU:
        return Ending.TIMEOUT
    if status == OUT_OF_MEMORY:
        return Ending.MEMORY
    if status < 0:
        return Ending.KILLED
    return Ending.OK if status == 0 else Ending.ERROR


def _returned(replies: bytes, most: int) -> tuple[Returned, ...]:
    """The answers in order, up to the first that is none; no more than `most` are read."""
    answers: list[Returned] = []
    for line in replies.split(b"\n", most)[:most]:
        try:
            # Pairs, not dicts: the program chooses the keys, and could choose them to collide.
            reply: Any = json.loads(line, object_pairs_hook=list)
        except (ValueError, RecursionError):
            break
        if isinstance(reply, list) and len(reply) == 1 and isinstance(reply[0], tuple):
            answers.append(Returned(error=str(reply[0][1])[:300]))
        elif isinstance(reply, list) and len(reply) == 1:
            answers.append(Returned(value=reply[0]))
        else:
            break
    return tuple(answers)
