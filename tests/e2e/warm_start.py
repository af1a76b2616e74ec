"""What Ray runs in place of its own `setup_worker.py`: a worker is forked from the warm process, if that will do.

Ray names a worker's arguments and environment; `warm.py` holds a process that has imported what workers import. A
worker whose environment asks for other imports (more threads, say), or that wants to be cold, starts as Ray starts it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import socket
import sys
from pathlib import Path

PLACE = "RAYLIGN_WARM"  # the socket of the warm process
COLD = "RAYLIGN_COLD"  # set: start as Ray does


def main() -> None:
    """Become the worker's parent until it ends, or Ray's own way of starting it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serialized-runtime-env-context", default="{}")
    parser.add_argument("--language", default="")
    known, arguments = parser.parse_known_args()
    wanted = json.loads(known.serialized_runtime_env_context or "{}")
    environment = {**os.environ, **(wanted.get("env_vars") or {})}
    plain = not wanted.get("command_prefix") and (wanted.get("py_executable") or sys.executable) == sys.executable
    if known.language == "PYTHON" and plain and COLD not in environment and arguments[0].endswith(".py"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(environment[PLACE])
            request = json.dumps({"arguments": arguments, "environment": environment, "folder": os.getcwd()}).encode()
            socket.send_fds(connection, [len(request).to_bytes(8, "little")], [0, 1, 2])
            connection.sendall(request)
            if connection.recv(1) == b"F":
                connection.recv(1)  # the worker holds the other end until it ends
                return
    where = importlib.util.find_spec("ray")
    assert where is not None
    assert where.origin is not None
    own = Path(where.origin).parent / "_private" / "workers" / "setup_worker.py"
    os.execv(sys.executable, [sys.executable, str(own), *sys.argv[1:]])


if __name__ == "__main__":
    main()
