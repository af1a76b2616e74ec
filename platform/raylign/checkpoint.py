"""Atomic checkpoints: write to a staging folder, fsync, rename. A cut-off write is never mistaken for a checkpoint."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from raylign.errors import CheckpointError, no_space

MANIFEST = "manifest.json"
STATE = "state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One valid checkpoint: the controller's state and the folder in which the learners wrote theirs."""

    step: int
    folder: Path
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one stage: ``step_000010/`` with a manifest of sizes and checksums.

    Example: ``await checkpoints.save(10, {"source": source.state_dict()}, learner_writes)``
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    async def save(self, step: int, state: dict[str, Any], write: Callable[[Path], Awaitable[None]]) -> Checkpoint:
        """Make ``step_<step>`` out of what `write` puts into a staging folder and the controller's `state`.

        Checksums, fsync and the removal of old checkpoints take seconds for each GB, in a thread of their own. Raises
        CheckpointError on a full disk or any other failure to write; earlier checkpoints stay as they are.
        """
        final = self.folder / f"step_{step:06d}"
        staging = self.folder / f".writing-{step:06d}"
        await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
        try:
            staging.mkdir(parents=True)
            await write(staging)
            await asyncio.to_thread(self._finish, staging, final, {"step": step, **state})
        except OSError as cause:
            await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
            raise CheckpointError(_explain(cause, staging)) from cause
        return Checkpoint(step=step, folder=final, state=state)

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint whose files are all there with the right checksums; None when there is none.

        Reads every byte of it: an event loop asks in a thread.
        """
        for folder in sorted(self.folder.glob("step_*"), reverse=True):
            if not broken(folder):
                state = orjson.loads((folder / STATE).read_bytes())
                return Checkpoint(step=state["step"], folder=folder, state=state)
        return None

    def _finish(self, staging: Path, final: Path, state: dict[str, Any]) -> None:
        (staging / STATE).write_bytes(orjson.dumps(state, option=orjson.OPT_SERIALIZE_NUMPY))
        _seal(staging)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(staging, final)
        _fsync(self.folder)
        self._prune()

    def _prune(self) -> None:
        valid = [folder for folder in sorted(self.folder.glob("step_*")) if (folder / MANIFEST).exists()]
        for folder in valid[: -self.keep] if self.keep > 0 else []:
            shutil.rmtree(folder, ignore_errors=True)


def broken(folder: Path) -> str:
    """What is wrong with a checkpoint folder; an empty string when nothing is."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        return "no manifest: the write was cut off"
    try:
        entries: dict[str, dict[str, Any]] = orjson.loads(manifest.read_bytes())
    except orjson.JSONDecodeError:
        return "the manifest is cut off"
    for name, entry in entries.items():
        path = folder / name
        if not path.exists():
            return f"{name} is missing"
        if path.stat().st_size != entry["size"] or _checksum(path) != entry["sha256"]:
            return f"{name} differs from the manifest"
    return ""


def _seal(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": _checksum(path)} for path in files
    }
    (folder / MANIFEST).write_bytes(orjson.dumps(entries, option=orjson.OPT_INDENT_2))
    for path in [*files, folder / MANIFEST]:
        _fsync(path)
    for path in [*(p for p in folder.rglob("*") if p.is_dir()), folder]:
        _fsync(path)


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explain(cause: OSError, folder: Path) -> str:
    if cause.errno == errno.ENOSPC:
        return no_space(folder.parent, shutil.disk_usage(folder.parent if folder.parent.exists() else Path("/")).free)
    return f"cannot write the checkpoint {folder}: {cause}; earlier checkpoints are untouched"
