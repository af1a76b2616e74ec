"""Run the command line in this process; at chosen moments die by SIGKILL, or keep what a death would have left.

python tests/e2e/dying.py '{"kill": ["rollout", 1, 0.05]}' train recipe=grpo ...
python tests/e2e/dying.py '{"keep": [["learn", 2, "/tmp/left"]], "run": "/tmp/run"}' train ...
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from typing import Any

from raylign.cli import main
from raylign.telemetry.recorder import Recorder

ORDERS = json.loads(sys.argv[1])
written = Recorder.event


def event(self: Recorder, kind: str, **fields: Any) -> None:
    """The real event, and then what the orders want."""
    written(self, kind, **fields)
    if kind != "phase":
        return
    now = [fields["phase"], fields["stage_step"]]
    if ORDERS.get("kill", [])[:2] == now:
        threading.Timer(ORDERS["kill"][2], lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    for *moment, left in ORDERS.get("keep", []):
        if moment == now:  # the driver stands still here, and it alone writes what a resumed run reads
            shutil.copytree(ORDERS["run"], left)


Recorder.event = event  # type: ignore[method-assign]
sys.exit(main(sys.argv[2:]))
