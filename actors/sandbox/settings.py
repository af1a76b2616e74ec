"""Limits and layers of the local sandbox: what its configuration says, and what the zygote is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from raylign.isolation import FIXES, REQUIRED

# fmt: off
# What programs import most; the rest is read when it is needed.
STANDARD = (
    "abc", "argparse", "array", "ast", "asyncio", "base64", "binascii", "bisect", "builtins", "calendar",
    "cmath", "collections", "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib",
    "enum", "fractions", "functools", "gc", "hashlib", "heapq", "html", "inspect", "io", "itertools", "json",
    "linecache", "math", "numbers", "operator", "pprint", "queue", "random", "re", "secrets", "signal",
    "statistics", "string", "struct", "sys", "tempfile", "textwrap", "threading", "time", "traceback", "types",
    "typing", "unicodedata", "uuid", "warnings", "weakref", "zlib",
)
# fmt: on


class Namespaces(Enum):
    """Whether programs get mount, pid, network and ipc namespaces of their own."""

    auto = "auto"  # where the machine allows
    never = "never"


@dataclass
class Limits:
    """Of one program; a `Program` may ask for other time and memory.

    Memory counts per process, so that the worst case is memory_mb * processes.
    """

    timeout_s: float = 5.0  # of a program's own time: computing or sleeping, not waiting for a processor
    memory_mb: int = 512  # address space beyond the interpreter's own
    processes: int = 8  # threads count
    open_files: int = 64
    file_mb: int = 16  # largest file
    scratch_mb: int = 64  # all files together; without namespaces looked at every tenth of a second
    output_kb: int = 256  # standard output and error together; more ends the program
    returned_kb: int = 4096  # what its answers to calls may add up to, encoded

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"limits.{name}={value} must be positive")


@dataclass
class SandboxConfig:
    """The local sandbox."""

    limits: Limits = field(default_factory=Limits)
    packages: list[str] = field(default_factory=list)  # third-party, that programs may import; loaded beforehand
    require: list[str] = field(default_factory=lambda: list(REQUIRED))
    namespaces: Namespaces = Namespaces.auto
    concurrency: int = 4

    def __post_init__(self) -> None:
        unknown = [name for name in self.require if name not in FIXES]
        if unknown:
            raise ValueError(f"require={self.require}: {unknown[0]!r} is no layer; there are {', '.join(FIXES)}")
        if self.concurrency < 1:
            raise ValueError(f"concurrency={self.concurrency} must be at least 1")
