"""A file of rows that grows batch by batch, and after a kill goes on exactly where its checkpoint stands."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raylign.data.rows import DataRow, line_of
from raylign.errors import CheckpointError

STATE = "rows"  # key of the checkpoint's state


class RowFile:
    """Appends lines to one file. What stands behind the last checkpoint is written again by the run that resumes.

    Example: ``file = RowFile(folder / "rows.jsonl"); await file.append([DataRow(...)])``
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0  # lines
        self._bytes, self._digest = 0, hashlib.sha256()

    async def append(self, rows: Sequence[DataRow]) -> None:
        """Write rows after those that are there. Raises DataError on one that could not be read back as it is, and
        OSError, as on a full disk.
        """
        lines = [line_of(row, self.count + number) for number, row in enumerate(rows, 1)]
        await asyncio.to_thread(self._append, b"".join(lines))
        self.count += len(rows)

    def state_dict(self) -> dict[str, Any]:
        """How far the file is good, and what stands there."""
        return {STATE: {"lines": self.count, "bytes": self._bytes, "sha256": self._digest.hexdigest()}}

    async def save(self, folder: Path) -> None:
        """Bring what was written to the disk; the checkpoint's own folder stays empty."""
        await asyncio.to_thread(self._append, b"")

    async def restore(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` stood. Raises CheckpointError where the file is not what it was then."""
        await asyncio.to_thread(self._restore, state[STATE])

    def _append(self, content: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        with os.fdopen(handle, "r+b") as stream:
            stream.truncate(self._bytes)  # of a process that was killed
            stream.seek(self._bytes)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        self._bytes += len(content)
        self._digest.update(content)

    def _restore(self, known: Mapping[str, Any]) -> None:
        content = self.path.read_bytes()[: known["bytes"]] if self.path.exists() else b""
        digest = hashlib.sha256(content)
        if digest.hexdigest() != known["sha256"]:
            raise CheckpointError(
                f"{self.path} is not as its checkpoint left it ({known['lines']} rows in {known['bytes']} bytes); "
                "fix: put it back, or start a new run"
            )
        self.count, self._bytes, self._digest = known["lines"], known["bytes"], digest
