"""Checkpoints: atomic, verified, newest valid found, old ones pruned, full disk explained."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from raylign.checkpoint import Checkpoints, broken
from raylign.errors import CheckpointError


def writer(content: bytes):
    async def write(folder: Path) -> None:
        (folder / "learner").mkdir()
        (folder / "learner" / "weights.bin").write_bytes(content)

    return write


async def test_round_trip_and_pruning(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.newest() is None
    for step in (1, 2, 3):
        await checkpoints.save(step, {"loop": {"version": step}}, writer(bytes([step]) * 100))
    checkpoint = checkpoints.newest()
    assert checkpoint is not None and checkpoint.step == 3 and checkpoint.state["loop"] == {"version": 3}
    assert (checkpoint.folder / "learner/weights.bin").read_bytes() == b"\x03" * 100
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["step_000002", "step_000003"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "manifest_gone", "manifest_cut"])
async def test_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2):
        await checkpoints.save(step, {}, writer(b"x" * 1000))
    target, manifest = tmp_path / "step_000002/learner/weights.bin", tmp_path / "step_000002/manifest.json"
    if damage == "truncate":
        target.write_bytes(b"x" * 999)
    elif damage == "flip":
        target.write_bytes(b"x" * 999 + b"y")
    elif damage == "delete":
        target.unlink()
    elif damage == "manifest_gone":
        manifest.unlink()
    else:
        manifest.write_bytes(manifest.read_bytes()[:20])
    assert broken(tmp_path / "step_000002")
    checkpoint = checkpoints.newest()
    assert checkpoint is not None and checkpoint.step == 1


async def test_cut_off_write_leaves_the_older_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    await checkpoints.save(1, {}, writer(b"good"))

    async def dies(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await checkpoints.save(2, {}, dies)
    checkpoint = checkpoints.newest()
    assert checkpoint is not None and checkpoint.step == 1
    await checkpoints.save(2, {}, writer(b"again"))  # the left-over staging folder is no obstacle
    newest = checkpoints.newest()
    assert newest is not None and newest.step == 2


async def test_full_disk_names_the_fix_and_keeps_the_older_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    await checkpoints.save(1, {}, writer(b"good"))

    async def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CheckpointError, match=r"no space left on the disk of .* MB free\); fix: make room"):
        await checkpoints.save(2, {}, full)
    checkpoint = checkpoints.newest()
    assert checkpoint is not None and checkpoint.step == 1
