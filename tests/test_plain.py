"""What may be read back from a pickle: records and plain values, and no other class or function, wherever it lives."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raylign.records as records
from raylign import plain
from raylign.data.score_cache import ScoreCache
from raylign.errors import CheckpointError, DataError
from raylign.loop.rollout_buffer import _write
from raylign.plan import Role
from raylign.records import Prompt, Value
from raylign.run_folder import RunFolder


class Made:
    """A user's own class in what a reward returned."""


@pytest.mark.parametrize(
    "value",
    [
        records.derive_seed,  # a function beside the records
        Role(name="x", actors=1, cpus=1, gpus=0),  # a dataclass from elsewhere
        RunFolder,
        Path("x"),
        np.float32,
        Made(),
        [{"deep": (1, {"er": Path("x")})}],
        pytest.param(type(records.StopReason), id="a metaclass"),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_what_is_no_record_is_refused(value: Any) -> None:
    with pytest.raises(CheckpointError, match="which is no plain data; fix: "):
        plain.loads(pickle.dumps(value))


@pytest.mark.parametrize("name", ["dataclass", "Any", "np.load", "np", "StrEnum", "__builtins__", "absent"])
def test_names_that_a_module_of_records_only_imports_are_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="no plain data"):
        plain.loads(f"craylign.records\n{name}\n.".encode())


def test_a_group_that_could_not_be_read_again_is_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "rollouts"
    for kept, whole in ((Made(), False), (1.5, True)):
        prompt = Prompt(id="a", messages=(), token_ids=np.zeros(1, np.int32), meta={"kept": kept})
        with nullcontext() if whole else pytest.raises(CheckpointError, match="Made, which is no plain data"):
            _write(path, {"again": [prompt], "finished": []})
        assert path.exists() == whole


def test_a_shard_of_scores_is_read_without_unpickling(tmp_path: Path) -> None:
    ScoreCache(tmp_path, {"model": "a"})
    (folder,) = [path for path in tmp_path.rglob("*") if path.is_dir()] or [tmp_path]
    objects = np.array([Value(score=1.0)], dtype=object)
    np.savez(folder / "0.npz", keys=np.zeros((1, 16), np.uint8), lengths=np.ones(1, np.int64), values=objects)
    with pytest.raises(DataError, match="not a readable shard"):
        ScoreCache(tmp_path, {"model": "a"})
