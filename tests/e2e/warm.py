"""A process that has imported most of what a run's workers import; those of the tests' clusters are forked from it.

Importing torch, transformers and what vLLM needs beside them costs more than a short run. A forked worker is a process
of its own, as fresh as any: it has connected to nothing, built no engine and loaded no weights, and imports Ray and
vLLM itself. Only third-party modules are there already.

    raylet ──► warm_start.py ──environment, arguments, stdio──► this process ──fork──► Ray's default_worker.py
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from warm_start import PLACE

from raylign.actor_env import actor_env
from raylign.actors.reward.zygote import die_with

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

MODULES = (
    "torch",
    "torch._inductor.lowering",
    "transformers.models.auto.modeling_auto",
    "transformers.core_model_loading",
    "transformers.conversion_mapping",
    "transformers.masking_utils",
    "deepspeed",
    "peft",
    "openai.types.responses",
    "aiohttp",
    "fastapi",
    "xgrammar",
    "cv2",
    "raylign.actors.reward.worker",
)
LATER = ("ray", "vllm")  # they read at import what differs by worker, and who is there
# What libraries read when they are imported: a worker that wants another value of these is not forked.
READ_AT_IMPORT = ("CUDA", "DS_", "HF_", "LD_", "MALLOC", "MKL", "OMP", "OPENBLAS", "PYTHON", "TOKEN", "TORCH", "VLLM")
PATHS = "PYTHONPATH"  # only what a worker imports itself is looked for there
READY = b"ready\n"


def cluster(cpus: int, memory: int) -> Cluster:
    """A running cluster of one node, whose workers are forked. memory: bytes of its object store."""
    from ray.cluster_utils import Cluster

    start()
    head = {
        "num_cpus": cpus,
        "include_dashboard": False,
        "include_log_monitor": False,  # workers write logs of their own
        "no_monitor": True,  # nothing is scaled
        "object_store_memory": memory,
        "setup_worker_path": str(Path(__file__).with_name("warm_start.py")),
    }
    running = Cluster(initialize_head=True, head_node_args=head)
    atexit.register(running.shutdown)
    return running


def start(modules: Sequence[str] = MODULES) -> subprocess.Popen[bytes]:
    """The warm process, which ends with this one; it is named in the environment for `warm_start`."""
    place = str(Path(tempfile.mkdtemp(prefix="raylign-warm-")) / "socket")
    # transformers imports scikit-learn, that pyarrow, and its allocator starts a thread unless it is told not to
    environment = {**os.environ, **actor_env(1, gpu=False), "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    command = [sys.executable, __file__, place, str(os.getpid()), *modules]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert READY in iter(process.stdout.readline, b""), "the warm process did not start; its error is above"
    atexit.register(process.kill)
    os.environ[PLACE] = place
    return process


def serve(place: str, parent: int, modules: Sequence[str]) -> None:
    """Import everything, then fork a worker for every request. Raises RuntimeError where a fork would not be safe."""
    die_with(parent)
    begun = read_at_import(os.environ)
    gc.disable()
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # keeps the pages of what is loaded shared with the workers
    gc.enable()
    if early := [name for name in LATER if name in sys.modules]:
        raise RuntimeError(f"{', '.join(early)} must be imported by each worker itself")
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        raise RuntimeError(f"importing started {threads - 1} threads, which a forked worker would lack")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen(64)
        os.write(1, READY)
        while True:
            answer(listener, begun)


def answer(listener: socket.socket, begun: Mapping[str, str]) -> None:
    """Fork the worker that is asked for, or say that it must start by itself."""
    connection, _ = listener.accept()
    head, files, _, _ = socket.recv_fds(connection, 8, 3)
    request = json.loads(connection.recv(int.from_bytes(head, "little"), socket.MSG_WAITALL))
    fits = read_at_import(request["environment"]) == begun
    if fits and os.fork() == 0:
        listener.close()
        connection.sendall(b"F")
        become(request, files)  # `connection` stays open as long as the worker lives
    if not fits:
        connection.sendall(b"N")
    for file in files:
        os.close(file)
    connection.close()


def become(request: Mapping[str, object], files: list[int]) -> NoReturn:
    """Go on as the script that Ray wants to run, with its arguments, environment, folder and stdio."""
    import numpy as np

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    environment: dict[str, str] = request["environment"]  # type: ignore[assignment]
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(str(request["folder"]))
    random.seed()
    np.random.seed()
    arguments: list[str] = request["arguments"]  # type: ignore[assignment]
    sys.argv[:] = arguments
    sys.path[0] = str(Path(arguments[0]).parent)
    paths = environment.get(PATHS, "").split(os.pathsep)
    sys.path[1:1] = [path for path in paths if path and path not in sys.path]
    runpy.run_path(arguments[0], run_name="__main__")
    sys.exit()


def read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that say what importing gives."""
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_IMPORT) and name != PATHS}


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
