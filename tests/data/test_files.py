"""A file that says what no reader may guess at: one line with place and fix, no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raylign.data.files import read_rows
from raylign.errors import DataError

ROW = '{"prompt": "é"}'


@pytest.mark.parametrize(
    ("name", "content", "count"),
    [
        ("a.jsonl", f"\ufeff{ROW}\n{ROW}\n".encode(), 2),
        ("a.jsonl", f"{ROW}\n\ufeff{ROW}\r\n".encode(), 2),
        ("a.json", f"{ROW}\n{ROW}\n".encode(), 2),
        ("a.json", f"\ufeff[{ROW}, {ROW}]".encode(), 2),
        ("a.jsonl", f"[{ROW},\n {ROW}]".encode(), 2),
        ("a.json", f" [ {ROW} , {ROW} ] \n".encode(), 2),
    ],
)
def test_what_can_be_read_is_read(tmp_path: Path, name: str, content: bytes, count: int) -> None:
    (tmp_path / name).write_bytes(content)
    assert [row for _, row in read_rows(tmp_path / name)] == [{"prompt": "é"}] * count


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.jsonl", ROW.encode("utf-16"), "is UTF-16.*iconv"),
        ("a.jsonl", ROW.encode("utf-16-le"), "is UTF-16.*iconv"),
        ("a.json", b'{"data": [{"prompt": "x"}]}', "save what stands under 'data'"),
        ("a.json", b'{\n"data": [{"prompt": "x"}]\n}', "save what stands under 'data'"),
        ("a.csv", b"a,b", r"to_json\('rows.jsonl'"),
        ("a.tsv", b"a\tb", r"sep='\\t'"),
        ("a.jsonl", b'{"a": 1}\n{"a": "hi \\ud83d there"}\n', "a.jsonl:2: half a surrogate pair"),
        ("a.jsonl", b'{"a": 1}\n{"\\udc00": 1}\n', "a.jsonl:2: half a surrogate pair"),
        ("a.jsonl", b'{"a": ' + b"[" * 100_000 + b"\n", "a.jsonl:1: .*more than 100 deep"),
        ("a.jsonl", b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}\n", "a.jsonl:1: .*more than 100 deep"),
        ("a.jsonl", b'{"a": ' + b"9" * 10_000 + b"}\n", "a.jsonl:1: .*more than 4300 digits"),
        ("a.jsonl", b'{"a": 1e999}\n', "a.jsonl:1: .*beyond what a float holds"),
        ("a.jsonl", b'{"a": 1, "b": {"c": 1, "c": 2}}\n', "a.jsonl:1: the key 'c' stands twice"),
        ("a.json", b'[{"a": 1},\n{"a": 1, "a": 2}]', "a.json:2: the key 'a' stands twice"),
        ("a.json", b'[{"a": 1},\n{"a": "\\ud800"}]', "a.json:row 2, line 2: half a surrogate"),
        ("a.json", b'[{"a": 1},]', "a.json:1: not valid JSON"),
        ("a.json", b'[{"a": 1} {"a": 1}]', "a.json:1: not valid JSON or truncated"),
        ("a.json", b'[{"a": 1}] x', "something follows"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=why):
        list(read_rows(tmp_path / name))


def test_pairs_of_surrogates_and_escaped_backslashes_are_text(tmp_path: Path) -> None:
    rows = [{"a": "\U0001f600"}, {"a": "\\ud83d"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row for _, row in read_rows(tmp_path / "a.jsonl")] == rows
