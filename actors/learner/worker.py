"""The Ray actor of one learner rank: it joins the process group, and hands every call to its `TrainingEngine`."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from raylign.actors.learner.ranks import free_port, node_address, plain_errors
from raylign.actors.learner.spec import LearnerSpec, Loaded, RankTokens, RankUpdate
from raylign.batch import Batch
from raylign.contracts import WeightUpdate
from raylign.errors import LearnerError
from raylign.telemetry.logs import redirect_output

if TYPE_CHECKING:
    from raylign.actors.learner.engine import TrainingEngine


class LearnerWorker:
    """One rank. torch and deepspeed are imported in `start`, after the rank's environment variables are set.

    log_path: the file that receives everything this process prints.
    """

    def __init__(self, rank: int, world: int, log_path: str) -> None:
        redirect_output(log_path)
        self._rank, self._world = rank, world
        self._engine: TrainingEngine | None = None

    def address(self) -> tuple[str, str, int]:
        """(node id, IP address, a port that is free now) of this process."""
        node, address = node_address()
        return node, address, free_port()

    @plain_errors
    def start(self, master: str, port: int, threads: int, gpu: bool, collectives_s: float) -> int:
        """Join the process group of all ranks, whose collectives wait `collectives_s`; returns the process id."""
        os.environ.update(
            RANK=str(self._rank),
            WORLD_SIZE=str(self._world),
            LOCAL_RANK="0",  # on every rank: an actor sees only its own GPU
            MASTER_ADDR=master,
            MASTER_PORT=str(port),
        )
        from datetime import timedelta

        gc.disable()  # imports leave no garbage; looking for it takes a fifth of their time
        import deepspeed
        import torch

        import raylign.actors.learner.engine  # noqa: F401 - `load` needs it; imported with the others

        gc.freeze()
        gc.enable()
        torch.set_num_threads(threads)
        self._device = torch.device("cuda", 0) if gpu else torch.device("cpu")
        # Without this DeepSpeed compiles a shared-memory all-reduce at the first start on a CPU: half a minute, a C++
        # compiler needed, and ranks that busy-wait for each other on cores that the engines could use.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        patience = timedelta(seconds=collectives_s)
        deepspeed.init_distributed("nccl" if gpu else "gloo", timeout=patience, verbose=False)
        return os.getpid()

    @plain_errors
    def load(self, spec: LearnerSpec) -> Loaded:
        """Build the engine of this spec in place of the one that was there."""
        from raylign.actors.learner.engine import TrainingEngine

        started = time.perf_counter()
        if self._engine is not None:
            self._engine.destroy()
            self._engine = None
            gc.collect()  # engine, model and hooks refer to each other in cycles
        self._engine = TrainingEngine(spec, self._rank, self._world, self._device)
        if note := self._engine.note:
            logging.getLogger(__name__).warning(note)
        return Loaded(
            seconds=time.perf_counter() - started,
            parameters=self._engine.parameters,
            note=note,
            streams=self._engine.kind.streams,
        )

    @plain_errors
    def free_cache(self) -> None:
        """Give memory that only PyTorch's allocator holds back to the device."""
        import torch

        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @plain_errors
    def update(self, batch: Batch, objective: Mapping[str, Any]) -> RankUpdate:
        """One optimiser step."""
        return self._loaded().update(batch, objective)

    @plain_errors
    def streams(self, batch: Batch, names: Collection[str]) -> dict[str, RankTokens]:
        """Named streams at this rank's loss tokens."""
        return self._loaded().streams(batch, names)

    @plain_errors
    def publish(self, version: int) -> WeightUpdate | None:
        """The weights, from rank 0."""
        return self._loaded().publish(version)

    @plain_errors
    def save(self, folder: str) -> None:
        """This rank's part of a checkpoint."""
        from raylign.actors.learner.checkpoint import save

        save(self._loaded(), folder)

    @plain_errors
    def restore(self, folder: str) -> None:
        """Continue from a checkpoint."""
        from raylign.actors.learner.checkpoint import restore

        restore(self._loaded(), folder)

    @plain_errors
    def export(self, folder: str) -> None:
        """A Hugging Face folder, from rank 0."""
        self._loaded().export(folder)

    def _loaded(self) -> TrainingEngine:
        if self._engine is None:
            raise LearnerError("no model is loaded; call load first")
        return self._engine
