"""Vectors by the content of their texts, in memory and on disk, for all processes of all runs that share a folder.

Each process appends whole records to a file of its own and reads what the others have appended, so no lock is needed: a
record that a killed process left unfinished is not read. Files are given up, oldest first, when they hold more than
`limit` bytes together.
"""

from __future__ import annotations

import hashlib
import os
import struct
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raylign.errors import DataError, said_of
from raylign.records import Float32s, content_id

KEY, HEAD = 16, struct.Struct("<II")  # bytes of a key; dimensions, and checksum of what follows
PARTS = 4  # files that one process fills before the oldest goes
SUFFIX = ".vectors"


class VectorStore:
    """The vectors of one embedder below `root`. identity: the embedder's; limit: bytes in memory, and again on disk.

    Raises DataError on a folder that cannot be used.
    """

    def __init__(self, root: Path, identity: str, limit: int) -> None:
        self.folder = root.expanduser() / content_id(identity)
        self._limit, self._size = limit, 0
        self._known: OrderedDict[bytes, Float32s] = OrderedDict()
        self._read: dict[Path, int] = {}  # file of another process -> bytes of it that were read
        self._own: Path | None = None
        self._pid = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "identity.txt").write_text(identity)
        except OSError as error:
            raise DataError(self._unusable(error)) from error

    def find(self, texts: Sequence[str]) -> list[Float32s | None]:
        """The vector of each text ([D]), None where it is not known to any process."""
        keys = [key_of(text) for text in texts]
        if any(key not in self._known for key in keys):
            self._refresh()
        found = [self._known.get(key) for key in keys]
        for key, vector in zip(keys, found, strict=True):
            if vector is not None:
                self._known.move_to_end(key)
        return found

    def store(self, texts: Sequence[str], vectors: Float32s) -> None:
        """Keep the vectors of these texts. vectors: [N, D]."""
        records = []
        for text, vector in zip(texts, np.ascontiguousarray(vectors, np.float32), strict=True):
            body = key_of(text) + vector.tobytes()
            records.append(HEAD.pack(len(vector), zlib.crc32(body)) + body)
            self._keep(key_of(text), vector.copy())
        try:
            with self._file(sum(map(len, records))).open("ab") as file:
                file.write(b"".join(records))
        except OSError as error:
            raise DataError(self._unusable(error)) from error

    def _file(self, more: int) -> Path:
        """This process's file with room for so many bytes; beyond the limit the oldest files go."""
        if self._own is None or self._pid != os.getpid() or _size(self._own) + more > self._limit // PARTS:
            self._pid = os.getpid()  # a fork does not write into its parent's file
            self._own = self.folder / f"{self._pid}-{uuid.uuid4().hex[:8]}{SUFFIX}"
        others = sorted(self.folder.glob(f"*{SUFFIX}"), key=lambda path: (_modified(path), path.name))
        total = more + sum(map(_size, others))
        for path in others:
            if total <= self._limit:
                break
            if path != self._own:
                total -= _size(path)
                path.unlink(missing_ok=True)
        return self._own

    def _refresh(self) -> None:
        """Take in what other processes have appended."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            start = self._read.get(path, 0)
            if path == self._own and self._pid == os.getpid():
                continue
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    content = file.read()
            except FileNotFoundError:  # given up by another process meanwhile
                continue
            except OSError as error:
                raise DataError(self._unusable(error)) from error
            self._read[path] = start + self._take(content)

    def _take(self, content: bytes) -> int:
        """Take in records; the bytes of those that are whole."""
        at = 0
        while at + HEAD.size <= len(content):
            dimensions, checksum = HEAD.unpack_from(content, at)
            end = at + HEAD.size + KEY + 4 * dimensions
            body = content[at + HEAD.size : end]
            if end > len(content) or zlib.crc32(body) != checksum:
                break  # unfinished; or broken, and nothing behind it can be trusted
            self._keep(body[:KEY], np.frombuffer(body, np.float32, offset=KEY))
            at = end
        return at

    def _keep(self, key: bytes, vector: Float32s) -> None:
        self._size += vector.nbytes - (self._known[key].nbytes if key in self._known else 0)
        self._known[key] = vector
        self._known.move_to_end(key)
        while self._size > self._limit and len(self._known) > 1:
            self._size -= self._known.popitem(last=False)[1].nbytes

    def _unusable(self, error: OSError) -> str:
        return said_of(error) or f"vectors cannot be kept in {self.folder}: {error}; fix: name another cache_dir"


def key_of(text: str) -> bytes:
    """The text's name among those of one embedder."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:KEY]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
