"""The large state of parts in a checkpoint: each has a folder of its own, and none where it wrote nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from raylign.contracts import StatefulPart
from raylign.errors import CheckpointError


def save_parts(folder: Path, parts: Mapping[str, StatefulPart]) -> None:
    """Let each part write into ``folder/<name>``."""
    for name, part in parts.items():
        own = folder / name
        own.mkdir()
        part.save(own)
        if not any(own.iterdir()):
            own.rmdir()


def restore_parts(folder: Path, parts: Mapping[str, StatefulPart]) -> None:
    """Let each part go on from ``folder/<name>``. Raises CheckpointError on what it cannot read."""
    for name, part in parts.items():
        try:
            part.restore(folder / name)
        except OSError as cause:
            raise CheckpointError(
                f"{type(part).__name__} cannot go on from {folder / name}: {cause}; "
                f"fix: resume with the {name} that the checkpoint was made with"
            ) from cause
