"""Log-probs of rows under frozen models, kept on disk by content and reused by every run that asks for the same.

A row's key is the hash of who scored it (the models' files, their data type and temperature) and of what was scored
(token ids, loss mask and payload). Shards are written whole and renamed, so a killed run loses at most the one in
progress.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import orjson

from raylign.batch import Batch
from raylign.data.prompt_identity import canonical
from raylign.errors import DataError
from raylign.records import Float32s, content_id

SUFFIXES = (".safetensors", ".bin", ".json", ".jinja", ".model")


class ScoreCache:
    """One folder of shards for one frozen model.

    Example: ``cache = ScoreCache(Path("~/.cache/raylign/scores"), {"model": fingerprint(path), "dtype": "float32"})``
    """

    def __init__(self, root: Path, identity: Mapping[str, str]) -> None:
        text = orjson.dumps(dict(identity), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
        self.folder = root.expanduser() / content_id(text.decode())
        self._known: dict[bytes, Float32s] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "identity.json").exists():
            _write(self.folder / "identity.json", text)
        for shard in sorted(self.folder.glob("*.npz")):
            self._read(shard)

    def find(self, batch: Batch) -> list[Float32s | None]:
        """The log-probs of every row's loss tokens, None where they are not known."""
        return [self._known.get(key) for key in row_keys(batch)]

    def store(self, batch: Batch, stream: Float32s) -> None:
        """Keep the log-probs of these rows; `stream`: [N], read at the loss tokens."""
        keys = row_keys(batch)
        mask = np.asarray(batch["loss_mask"], bool)
        values = [np.asarray(stream[a:b][mask[a:b]], np.float32) for a, b in _spans(batch)]
        name = hashlib.sha256(b"".join(keys)).hexdigest()[:24]
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".writing-", delete=False) as file:
            np.savez(
                file,
                keys=np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1),
                lengths=np.array([len(row) for row in values], np.int64),
                values=np.concatenate(values),
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, self.folder / f"{name}.npz")
        self._known |= dict(zip(keys, values, strict=True))

    def stream(self, batch: Batch) -> Float32s:
        """[N] the log-probs at the loss tokens, 0 elsewhere. Raises KeyError when a row is not known."""
        logprobs = np.zeros(batch.tokens, np.float32)
        rows = self.find(batch)
        if any(row is None for row in rows):
            raise KeyError(f"{sum(row is None for row in rows)} of {len(rows)} rows are not in {self.folder}")
        logprobs[np.asarray(batch["loss_mask"], bool)] = np.concatenate([row for row in rows if row is not None])
        return logprobs

    def _read(self, shard: Path) -> None:
        try:
            with np.load(shard) as arrays:
                keys, lengths, values = arrays["keys"], arrays["lengths"], arrays["values"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{shard}: not a readable shard of scores ({error}); delete it, it is made again"
            ) from error
        rows = np.split(values, np.cumsum(lengths)[:-1])
        self._known |= {key.tobytes(): row for key, row in zip(keys, rows, strict=True)}


def row_keys(batch: Batch) -> list[bytes]:
    """16 bytes a row: the hash of its token ids and loss mask, and of what its payload holds."""
    ids = np.ascontiguousarray(batch["token_ids"], np.int32)
    mask = np.ascontiguousarray(batch["loss_mask"], bool)
    shown = [canonical(held).encode() if held else b"" for held in batch.payloads] or [b""] * len(batch)
    return [
        hashlib.sha256(ids[a:b].tobytes() + mask[a:b].tobytes() + held).digest()[:16]
        for (a, b), held in zip(_spans(batch), shown, strict=True)
    ]


def fingerprint(path: str, deep: bool = False) -> str:
    """Identity of a model's content: the hash of its files, or name and commit of a Hugging Face id.

    deep: of those in its folders, too.

    Raises DataError when there is no such model.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        there = sorted(folder.rglob("*") if deep else folder.iterdir())
        files = [file for file in there if file.suffix in SUFFIXES and file.is_file()]
        if not files:
            raise DataError(f"{folder}: holds no model files")
        return content_id(*(f"{file.relative_to(folder)}:{_checksum(file)}" for file in files))
    from transformers.utils.hub import cached_file

    try:
        config = cached_file(path, "config.json")
    except OSError as error:
        raise DataError(f"{path}: neither a folder nor a model that can be fetched ({error})") from error
    return f"{path}@{Path(str(config)).parent.name}"


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _spans(batch: Batch) -> Sequence[tuple[int, int]]:
    return list(zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True))


def _write(path: Path, content: bytes) -> None:
    staging = path.with_name(f".writing-{os.getpid()}-{path.name}")
    staging.write_bytes(content)
    os.replace(staging, path)
