"""Run the command line in this process and die by SIGKILL `delay` seconds into a phase of a step.

python tests/e2e/dying.py rollout 1 0.05 train recipe=grpo ...
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from raylign.cli import main
from raylign.telemetry.recorder import Recorder

PHASE, STEP, DELAY = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
written = Recorder.event


def event(self: Recorder, kind: str, **fields: Any) -> None:
    """The real event, and then death."""
    written(self, kind, **fields)
    if kind == "phase" and (fields["phase"], fields["stage_step"]) == (PHASE, STEP):
        threading.Timer(DELAY, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()


Recorder.event = event  # type: ignore[method-assign]
sys.exit(main(sys.argv[4:]))
