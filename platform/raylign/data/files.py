"""Rows of a data file, each with the place it came from. Whatever is wrong with the file is a `DataError` naming it."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raylign.errors import DataError

RawRow = Mapping[str, Any]
SUFFIXES = ".jsonl, .jsonl.gz, .json (one array), .json.gz, .parquet"


def read_rows(path: str | Path) -> Iterator[tuple[str, RawRow]]:
    """``(place, row)`` for every row, where place is ``file:line`` (JSONL) or ``file:row n`` (arrays and parquet).

    Raises DataError on a file that is missing, empty, truncated, of another kind, or holds a row that is no mapping.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    suffixes = path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]
    if suffixes == [".parquet"]:
        rows = _parquet(path)
    elif suffixes[:1] == [".jsonl"]:
        rows = _lines(path)
    elif suffixes[:1] == [".json"]:
        rows = _array(path)
    else:
        raise DataError(f"{path}: unknown kind of file; known are {SUFFIXES}")
    empty = True
    for place, row in rows:
        if not isinstance(row, Mapping):
            raise DataError(f"{place}: a row must be an object with named columns, this one is {_kind(row)}")
        empty = False
        yield place, row
    if empty:
        raise DataError(f"{path}: holds no rows")


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    lines = _text(path).split("\n")
    last = max((number for number, line in enumerate(lines, 1) if line.strip()), default=0)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield f"{path}:{number}", json.loads(line)
        except json.JSONDecodeError as error:
            # A writer that died leaves half a line and no newline after it.
            cut = number == last and number == len(lines)
            why = "the last line is cut off, so the file is truncated" if cut else "not valid JSON"
            raise DataError(f"{path}:{number}: {why} ({error.msg} at column {error.colno})") from error


def _array(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        rows = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not valid JSON or truncated ({error.msg})") from error
    if not isinstance(rows, list):
        raise DataError(f"{path}: a .json file must hold one array of rows, this one holds {_kind(rows)}")
    for number, row in enumerate(rows, 1):
        yield f"{path}:row {number}", row


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}:row {number}", row
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file, corrupt or truncated ({error})") from error


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz" and raw:
            raw = gzip.decompress(raw)
        return raw.decode("utf-8")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: corrupt or truncated gzip ({error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _kind(value: Any) -> str:
    return {"dict": "an object", "list": "an array", "str": "a text"}.get(type(value).__name__, repr(value))
