"""Send everything that a process prints, native libraries included, to a file of the run folder."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from pathlib import Path


def redirect_output(path: str | Path) -> None:
    """Point file descriptors 1 and 2 at the end of a file; SIGUSR1 writes all threads' stacks there too.

    Call first thing in an actor.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
