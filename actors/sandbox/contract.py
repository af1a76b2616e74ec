"""What every sandbox promises: the local one, and whatever else (gVisor, a remote service) runs programs for us."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from raylign.contracts import Part
from raylign.errors import SandboxError


class Ending(StrEnum):
    """How a program ended."""

    OK = "ok"  # it returned, or exited with 0
    ERROR = "error"  # it raised, or exited with another status
    TIMEOUT = "timeout"  # killed when its own time was over: it computed or slept too long
    STARVED = "starved"  # killed at the wall limit, waiting for a processor: says nothing about the program
    MEMORY = "memory"  # it raised MemoryError and did not catch it
    KILLED = "killed"  # a signal ended it: a crash, a refused system call, the kernel out of memory
    OUTPUT_LIMIT = "output_limit"  # killed while it wrote more than it may


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Python source to run, and its limits. A limit left None is the sandbox's own.

    With `entry`, the function of that name is called once per element of `calls` after the source has run, each element
    being the encoded argument list (`values.encode`), and `Ran.returned` holds what came back. The program never sees
    what is expected of it; whatever it does to its own process, it can only choose its answers.

    Example: ``Program(code="print(input())", stdin="7", timeout_s=2.0)``
    """

    code: str
    stdin: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)  # relative path in the scratch folder -> content
    timeout_s: float | None = None  # of its own time: computing or sleeping, not waiting for a processor (`clock`)
    memory_mb: int | None = None  # address space of each process
    entry: str = ""
    calls: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """One call's result: an encoded value (data, of the program's choosing), or the exception's text.

    Example: ``Returned(value=["t", [1, 2]])``, ``Returned(error="ZeroDivisionError: division by zero")``
    """

    value: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What came of a program. Nothing in it is trustworthy but `reason`, `exit` and `seconds`.

    Example: ``Ran(stdout="7\\n", stderr="", exit=0, reason=Ending.OK, seconds=0.004)``
    """

    stdout: str
    stderr: str
    exit: int  # the status; -n after signal n
    reason: Ending
    seconds: float  # of the program's own time
    cleanup_s: float = 0.0  # from its end, or the kill, until none of its processes was left
    returned: tuple[Returned, ...] = ()  # one per answered call, in order; shorter after an early end


class Sandbox(Part):
    """Runs untrusted programs. `run` may be called from several threads; one more than `concurrency` waits."""

    concurrency: int = 1
    _threads: ThreadPoolExecutor | None = None

    @abstractmethod
    def run(self, program: Program) -> Ran:
        """Run to the end or to a limit. Raises SandboxError when the sandbox, not the program, failed."""

    @property
    @abstractmethod
    def layers(self) -> tuple[str, ...]:
        """The layers of isolation in force, for people. Raises SandboxError when a required one is not to be had."""

    @abstractmethod
    def close(self) -> None:
        """End everything that runs in it."""

    async def arun(self, program: Program) -> Ran:
        """`run` beside an event loop, at most `concurrency` at a time; a cancelled call still ends at its deadline."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.concurrency, thread_name_prefix="sandbox")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.run, program)


__all__ = ["Ending", "Program", "Ran", "Returned", "Sandbox", "SandboxError"]
