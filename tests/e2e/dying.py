"""Run the command line in this process and die by SIGKILL, `delay` seconds into a phase of a step of a stage.

python tests/e2e/dying.py rl rollout 1 0.05 train recipe=grpo ...
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from raylign.cli import main
from raylign.telemetry.recorder import Recorder


@contextmanager
def at_phases(do: Callable[[str, str, int], None]) -> Iterator[None]:
    """Call `do(stage, phase, step of the stage)` when a phase begins. The driver stands still until it returns."""
    written = Recorder.event

    def event(self: Recorder, kind: str, **fields: Any) -> None:
        written(self, kind, **fields)
        if kind == "phase":
            self.flush()  # a copy of the folder must not meet a file that is being renamed
            do(fields["stage"], fields["phase"], fields["stage_step"])

    Recorder.event = event  # type: ignore[method-assign]
    try:
        yield
    finally:
        Recorder.event = written  # type: ignore[method-assign]


if __name__ == "__main__":

    def die(stage: str, phase: str, step: int) -> None:
        if [stage, phase, str(step)] == sys.argv[1:4]:
            threading.Timer(float(sys.argv[4]), lambda: os.kill(os.getpid(), signal.SIGKILL)).start()

    with at_phases(die):
        sys.exit(main(sys.argv[5:]))
