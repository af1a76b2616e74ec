"""Answers by the content of their questions: in memory with a bound, and on disk where a folder is given."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import orjson

from raylign.contracts import Sampling
from raylign.errors import DataError
from raylign.records import Message


def key_of(
    model: str, messages: Sequence[Message], schema: Mapping[str, Any] | None, sampling: Sampling, salt: str
) -> str:
    """32 hex digits that two questions share only when model, words, schema, sampling and salt are the same."""
    return key_for(model, [dict(message) for message in messages], schema, dataclasses.asdict(sampling), salt)


def key_for(*content: Any) -> str:
    """32 hex digits that only the same content has."""
    text = orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY, default=str)
    return hashlib.sha256(text).hexdigest()[:32]


class ReplyCache:
    """The last `entries` answers; with a folder, every answer ever stored there by any process (read at the start).

    Each process appends to a file of its own, line by line, so that processes share a folder without locks; a line
    that a killed process left unfinished is passed over. Raises DataError on a folder that cannot be made.
    """

    def __init__(self, entries: int, folder: str = "") -> None:
        self._entries = entries
        self._known: OrderedDict[str, str] = OrderedDict()
        self._file: IO[bytes] | None = None
        if folder and entries:
            self._open(Path(folder).expanduser())

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: str) -> str | None:
        """The answer of this key, or None."""
        text = self._known.get(key)
        if text is not None:
            self._known.move_to_end(key)
        return text

    def store(self, key: str, text: str) -> None:
        """Keep an answer."""
        if not self._entries:
            return
        self._keep(key, text)
        if self._file is not None:
            self._file.write(orjson.dumps([key, text]) + b"\n")
            self._file.flush()

    def _keep(self, key: str, text: str) -> None:
        self._known[key] = text
        self._known.move_to_end(key)
        if len(self._known) > self._entries:
            self._known.popitem(last=False)

    def _open(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob("*.jsonl")):
                for line in path.read_bytes().splitlines():
                    try:
                        self._keep(*orjson.loads(line))
                    except (orjson.JSONDecodeError, TypeError):
                        continue  # the last line of a process that was killed while it wrote
            self._file = (folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl").open("ab")
        except OSError as error:
            raise DataError(f"judge cache {folder}: {error}; fix: name another cache_dir, or none") from error
