"""State of parts in files: large state in a checkpoint, a folder a part; or all that one part is, in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson

from raylign.contracts import StatefulPart
from raylign.errors import CheckpointError

STATE, FILES = "state.json", "files"


def save_parts(folder: Path, parts: Mapping[str, StatefulPart]) -> None:
    """Let each part write into ``folder/<name>``."""
    for name, part in parts.items():
        part_folder = folder / name
        part_folder.mkdir()
        part.save(part_folder)
        if not any(part_folder.iterdir()):
            part_folder.rmdir()


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


def save_part(folder: Path, part: StatefulPart) -> None:
    """Write all of a part's state into a new folder: ``state.json``, and where it has large state, files below."""
    folder.mkdir(parents=True)
    (folder / STATE).write_bytes(orjson.dumps(part.state_dict(), option=orjson.OPT_SERIALIZE_NUMPY))
    save_parts(folder, {FILES: part})


def restore_part(folder: Path, part: StatefulPart) -> None:
    """Go on from what `save_part` wrote. Raises CheckpointError on what it cannot read, or another part wrote."""
    try:
        state = orjson.loads((folder / STATE).read_bytes())
    except (OSError, orjson.JSONDecodeError) as cause:
        raise CheckpointError(f"{folder} holds no state of a part: {cause}; fix: name what a stage left") from cause
    part.load_state_dict(state)
    restore_parts(folder, {FILES: part})
