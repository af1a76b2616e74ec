"""Checkpoints of a learner: every rank writes its own part, and a restore continues bit for bit.

DeepSpeed writes weights, master weights and optimiser state; beside them lie each rank's random state and one
`learner.json` that says what the folder fits. Making the folder appear atomically is the caller's business.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raylign.actors.learner.engine import TrainingEngine
from raylign.errors import CheckpointError

TAG = "state"
DESCRIPTION = "learner.json"


def save(engine: TrainingEngine, folder: str) -> None:
    """Write this rank's part. Collective."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if engine.engine.save_checkpoint(folder, tag=TAG, save_latest=False) is False:
        raise CheckpointError(f"DeepSpeed did not write the checkpoint {folder}")
    torch.save(_random_state(), path / f"random-{engine.rank}.pt")
    if engine.rank == 0:
        (path / DESCRIPTION).write_text(json.dumps({**_fit(engine), "step": engine.step}, indent=1))


def restore(engine: TrainingEngine, folder: str) -> None:
    """Continue from a checkpoint of the same shape. Collective.

    Raises CheckpointError when there is none, or when it was written by another number of ranks, stage, dtype or kind.
    """
    path = Path(folder)
    if not (path / DESCRIPTION).exists():
        raise CheckpointError(f"{folder} holds no learner checkpoint ({DESCRIPTION} is missing)")
    stored = json.loads((path / DESCRIPTION).read_text())
    wrong = [
        f"{key} {stored.get(key)} (now {value})" for key, value in _fit(engine).items() if stored.get(key) != value
    ]
    if wrong:
        raise CheckpointError(f"checkpoint {folder} does not fit this learner: {', '.join(wrong)}")
    loaded, _ = engine.engine.load_checkpoint(folder, tag=TAG)
    if loaded is None:
        raise CheckpointError(f"DeepSpeed could not read the checkpoint {folder}")
    _set_random_state(torch.load(path / f"random-{engine.rank}.pt", weights_only=False))
    engine.step = int(stored["step"])


def _fit(engine: TrainingEngine) -> dict[str, Any]:
    return {
        "ranks": engine.world,
        "zero_stage": engine.stage,
        "dtype": engine.spec.dtype,
        "kind": str(engine.spec.kind),
        "parameters": engine.parameters,
    }


def _random_state() -> dict[str, Any]:
    state = {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
