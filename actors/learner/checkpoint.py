"""Checkpoints of a learner: every rank writes its own part, and a restore continues bit for bit.

DeepSpeed writes weights, master weights and optimiser state; beside them lie each rank's random state and one
`learner.json` that says what the folder fits, and keeps the rows of the probe: later gaps are of the same tokens.
Making the folder appear atomically is the caller's business.

With another number of ranks the partitions are put together by DeepSpeed's universal checkpoint, once, beside them:
the weights are the same bit for bit, and later steps differ by the order in which the ranks' sums are added.

DeepSpeed unpickles its own files: a checkpoint is trusted like the program itself (`docker/TRUST.md`).
"""

from __future__ import annotations

import json
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raylign.actors.learner.engine import TrainingEngine
from raylign.errors import CheckpointError

TAG = "state"
UNIVERSAL = "universal"
DESCRIPTION = "learner.json"


def save(engine: TrainingEngine, folder: str) -> None:
    """Write this rank's part. Collective."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if engine.engine.save_checkpoint(folder, tag=TAG, save_latest=False) is False:
        raise CheckpointError(f"DeepSpeed did not write the checkpoint {folder}")
    torch.save(_random_state(), path / f"random-{engine.rank}.pt")
    if engine.rank == 0:
        state = {**_fit(engine), "step": engine.step, "probe": engine.probe.tolist()}
        (path / DESCRIPTION).write_text(json.dumps(state, indent=1))


def restore(engine: TrainingEngine, folder: str) -> None:
    """Continue from a checkpoint. Collective.

    Raises CheckpointError when there is none, or when it was written at another stage, dtype or kind.
    """
    path = Path(folder)
    if not (path / DESCRIPTION).exists():
        raise CheckpointError(f"{folder} holds no learner checkpoint ({DESCRIPTION} is missing)")
    stored = json.loads((path / DESCRIPTION).read_text())
    wrong = [
        f"{key} {stored.get(key)} (now {value})"
        for key, value in _fit(engine).items()
        if key != "ranks" and stored.get(key) != value
    ]
    if wrong:
        raise CheckpointError(f"checkpoint {folder} does not fit this learner: {', '.join(wrong)}")
    if stored["ranks"] == engine.ranks or engine.stage == 0:  # without ZeRO every rank holds everything
        loaded, _ = engine.engine.load_checkpoint(folder, tag=TAG)
    else:
        loaded = _load_universal(engine, path)
    if loaded is None:
        raise CheckpointError(f"DeepSpeed could not read the checkpoint {folder}")
    _set_random_state(read_random_state(path / f"random-{engine.rank % stored['ranks']}.pt"))
    engine.step = int(stored["step"])
    engine.probe = np.array(stored["probe"], np.int32)


def _load_universal(engine: TrainingEngine, path: Path) -> str | None:
    """Rank 0 puts the partitions together unless that was done before; every rank takes its part of the whole."""
    failure = [""]
    if engine.rank == 0 and not (path / UNIVERSAL).exists():
        failure[0] = _make_universal(path)
    torch.distributed.broadcast_object_list(failure, src=0)
    if failure[0]:
        raise CheckpointError(f"the checkpoint {path} cannot be cut for {engine.ranks} ranks: {failure[0]}")
    config = engine.engine._config  # DeepSpeed reads it at load, and has no other way to say it for one load
    config.load_universal_checkpoint = True
    try:
        loaded: str | None = engine.engine.load_checkpoint(str(path), tag=UNIVERSAL)[0]
    finally:
        config.load_universal_checkpoint = False
    return loaded


def _make_universal(path: Path) -> str:
    """Empty, or why it failed. A process of its own: the conversion prints, and starts a pool of processes."""
    half = path / f"{UNIVERSAL}.half"
    shutil.rmtree(half, ignore_errors=True)  # of a conversion that was killed
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    command += ["--input_folder", str(path / TAG), "--output_folder", str(half)]
    command += ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    half.rename(path / UNIVERSAL)
    return ""


def _fit(engine: TrainingEngine) -> dict[str, Any]:
    return {
        "ranks": engine.ranks,
        "zero_stage": engine.stage,
        "dtype": engine.spec.dtype,
        "kind": engine.spec.kind_name,
        "parameters": engine.parameters,
        "lora": [engine.spec.lora.rank, engine.spec.lora.alpha, sorted(engine.spec.lora.targets)],
    }


def read_random_state(path: Path) -> dict[str, Any]:
    """Of one rank. Raises CheckpointError on a file that is none, or holds more than tensors and plain values."""
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as cause:
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise CheckpointError(
            f"{path} is no random state of a learner ({reason}); fix: resume an earlier checkpoint"
        ) from cause
    return state


def _random_state() -> dict[str, Any]:
    """Tensors and plain values only: it is read without unpickling."""
    kind, keys, *rest = np.random.get_state()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": (str(kind), torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    random.setstate(state["python"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
