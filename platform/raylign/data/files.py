"""Rows of a data file, each with the place it came from. Whatever is wrong with the file is a `DataError` naming it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raylign.data.strict_json import elements, parse
from raylign.errors import DataError

RawRow = Mapping[str, Any]
SUFFIXES = ".jsonl, .json (an array, or a row a line), both also as .gz, .parquet"
BOM = "\ufeff"


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
        raise DataError(f"{path}: unknown kind of file; known are {SUFFIXES}{_hint(suffixes)}")
    empty = True
    for place, row in rows:
        if not isinstance(row, Mapping):
            raise DataError(f"{place}: a row must be an object with named columns, this one is {_kind(row)}")
        empty = False
        yield place, row
    if empty:
        raise DataError(f"{path}: holds no rows")


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    yield from _rows_of(_text(path), path)


def _rows_of(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    if text.lstrip()[:1] == "[":  # one array, whatever the name says
        yield from elements(text, str(path))
        return
    lines = text.split("\n")
    last = max((number for number, line in enumerate(lines, 1) if line.strip()), default=0)
    for number, line in enumerate(lines, 1):
        if not (line := line.lstrip(BOM)).strip():  # files that were put together have one in their middle
            continue
        try:
            row = parse(line, f"{path}:{number}")
        except DataError as error:
            # A writer that died leaves half a line and no newline after it.
            if number == last and number == len(lines) and "not valid JSON" in str(error):
                why = "the last line is cut off, so the file is truncated"
                raise DataError(str(error).replace("not valid JSON", why)) from error
            raise
        yield f"{path}:{number}", row


def _array(path: Path) -> Iterator[tuple[str, Any]]:
    text = _text(path)
    if text.lstrip()[:1] != "{":
        if text.strip() and text.lstrip()[:1] != "[":
            raise DataError(f"{path}: a .json file must hold one array of rows, or one row a line")
        yield from _rows_of(text, path)
        return
    first, _, rest = text.lstrip().partition("\n")
    if first.rstrip().endswith("}") and rest.lstrip()[:1] in ("", "{"):
        whole = parse(first, f"{path}:1")
        if whole and (rest.strip() or not any(isinstance(value, list | Mapping) for value in whole.values())):
            yield from _rows_of(text, path)  # JSON lines under the name of .json
            return
    else:
        whole = parse(text, str(path))
    inner = [
        name for name, value in whole.items() if isinstance(value, list) and value and isinstance(value[0], Mapping)
    ]
    fix = f"; save what stands under {inner[0]!r} as a file of its own" if inner else ""
    raise DataError(f"{path}: a .json file must hold one array of rows, this one holds an object{fix}")


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1024):
                for row in batch.to_pylist(maps_as_pydicts="strict"):
                    number += 1
                    yield f"{path}:row {number}", row
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:row {number + 1}: or a later one holds a text that is not UTF-8 ({error})") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file, corrupt or truncated ({error})") from error


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz" and raw:
            raw = gzip.decompress(raw)
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(raw) > 3 and 0 in (raw[0], raw[1])):
            raise DataError(f"{path}: is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8 FILE > NEW)")
        return raw.decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: corrupt or truncated gzip ({error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _hint(suffixes: list[str]) -> str:
    """How a table becomes one of the known kinds."""
    separator = {".csv": "", ".tsv": ", sep='\\t'"}.get(suffixes[0] if suffixes else "")
    if separator is None:
        return ""
    return f"; fix: pandas.read_csv(FILE{separator}, dtype=str).to_json('rows.jsonl', orient='records', lines=True)"


def _kind(value: Any) -> str:
    return {"dict": "an object", "list": "an array", "str": "a text"}.get(type(value).__name__, repr(value))
