"""A program's own time: it runs while the program computes or sleeps, and stands while it waits for a processor.

So a deadline is the program's own: beside busy neighbours a program is given longer, and one that sleeps for ever ends
after its deadline all the same. The time spent waiting is the kernel's count (``/proc/<pid>/schedstat``). A program
that starts processes is timed by the wall from then on, because it could make itself wait. Threads need no such rule:
the processor time of all of them counts together, and ends the program by itself.

Without schedstat (gVisor) own time is processor time, and what spends none ends at the wall limit.
"""

from __future__ import annotations

import os
import random
import time

NANO = 1e-9
FIRST_LOOK_S, LOOK_S = 0.01, 0.1  # shortest and longest time between two looks at a running program


def wall_seconds(timeout_s: float) -> float:
    """How long a program with so much time of its own may take on the wall."""
    return timeout_s + min(9 * timeout_s, 60.0)


class Clock:
    """The time of one child of this process, from now on. proc: an open descriptor of /proc.

    Example: ``Clock(child, proc, timeout_s=5.0)``; ``clock.look()`` is the seconds until it is worth looking again.
    """

    def __init__(self, child: int, proc: int, timeout_s: float) -> None:
        self._child, self._proc, self._timeout_s = child, proc, timeout_s
        self._processor = (~child << 3) | 2  # clockid of another process: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
        self._started, self._processor_start = time.monotonic(), time.clock_gettime(self._processor)
        self._seen = self._waiting()
        self._excused = 0.0  # seconds of waiting that do not count
        self.forked = False

    @property
    def wall(self) -> float:
        """Seconds on the wall."""
        return time.monotonic() - self._started

    def spent(self) -> float:
        """Seconds of its own time, as of now; to be called while the child is there, if only as a zombie."""
        processor = time.clock_gettime(self._processor) - self._processor_start
        waiting = self._waiting()
        if self._seen is None or waiting is None:
            return processor
        self.forked = self.forked or self._has_children()
        if not self.forked:
            self._excused += max(0.0, waiting - self._seen)
        self._seen = waiting
        return max(processor, self.wall - self._excused)

    def look(self) -> float:
        """Seconds until the next look; 0 when the program's time, or that on the wall, is over."""
        left = min(self._timeout_s - self.spent(), wall_seconds(self._timeout_s) - self.wall)
        # Nobody can foretell a look, and have no children just then.
        return 0.0 if left <= 0 else min(max(left, FIRST_LOOK_S), random.uniform(FIRST_LOOK_S, LOOK_S))

    def starved(self, spent: float) -> bool:
        """Whether the wall limit came first, by no doing of the program's."""
        return self._seen is not None and not self.forked and spent < self._timeout_s

    def _waiting(self) -> float | None:
        said = self._read(f"{self._child}/schedstat")
        return int(said.split()[1]) * NANO if said else None

    def _has_children(self) -> bool:
        """Also orphans, which are this process's children. Unknown counts as yes."""
        try:
            tasks = self._path(f"{self._child}/task")
            own = os.listdir(tasks)
            os.close(tasks)
        except OSError:
            return True
        theirs = [self._read(f"{self._child}/task/{thread}/children") for thread in own]
        ours = self._read(f"{os.getpid()}/task/{os.getpid()}/children")
        return ours is None or len(ours.split()) > 1 or any(said is None or said.strip() for said in theirs)

    def _path(self, name: str) -> int:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)

    def _read(self, name: str) -> str | None:
        try:
            with os.fdopen(self._path(name)) as stream:
                return stream.read()
        except OSError:
            return None
