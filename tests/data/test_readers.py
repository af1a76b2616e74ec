"""Every column convention, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylign.data.columns import Columns
from raylign.data.conversed import named
from raylign.data.readers import Format, load_rows
from raylign.data.rows import DataRow
from raylign.errors import DataError

CHAT = [{"role": "user", "content": "1+1?"}]


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, **keys: str) -> tuple[Format, list[DataRow]]:
    kind, rows = load_rows(path, **keys)
    return kind, list(rows)


CONVENTIONS = [
    (
        {"question": "How many?", "answer": "2 * 540\n#### 1,080", "level": 3},
        Format.gsm8k,
        {"answer": "1080", "target": "2 * 540\n#### 1,080", "verifier": "gsm8k", "meta": {"level": 3}},
    ),
    (
        {
            "prompt": CHAT,
            "reward_model": {"ground_truth": "2", "style": "rule"},
            "data_source": "openai/gsm8k",
            "extra_info": {"index": 7},
        },
        Format.verl,
        {"answer": "2", "verifier": "gsm8k", "domain": "openai/gsm8k", "meta": {"extra_info": {"index": 7}}},
    ),
    ({"prompt": CHAT, "color": "red"}, Format.trl, {"answer": None, "verifier": "", "meta": {"color": "red"}}),
    ({"prompt": "1+1?", "solution": "2"}, Format.trl, {"answer": "2", "verifier": "boxed_math"}),
    ({"input": "1+1?", "label": "2"}, Format.openrlhf, {"answer": "2", "verifier": "boxed_math"}),
    (
        {"question": "1+1?", "answer": "2", "info": {"a": 1}, "task": "math"},
        Format.verifiers,
        {"answer": "2", "domain": "math", "verifier": "boxed_math", "meta": {"info": {"a": 1}, "task": "math"}},
    ),
    ({"prompt": CHAT, "answer": "2", "task": "x"}, Format.verifiers, {"answer": "2", "verifier": "boxed_math"}),
    ({"problem": "1+1?", "answer": "2"}, Format.verifiers, {"answer": "2", "verifier": "boxed_math"}),
]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".parquet"])
@pytest.mark.parametrize(("raw", "kind", "expected"), CONVENTIONS)
def test_conventions_are_detected_and_read(
    tmp_path: Path, raw: dict[str, Any], kind: Format, expected: dict[str, Any], suffix: str
) -> None:
    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([raw, raw]), path)
    elif suffix == ".json":
        path.write_text(json.dumps([raw, raw]))
    else:
        text = "\n".join([json.dumps(raw), "", json.dumps(raw)]).encode()  # no newline at the end, a blank line
        path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    detected, rows = read(path)
    assert detected is kind and len(rows) == 2
    for name, value in expected.items():
        assert getattr(rows[1], name) == value, name
    assert [message["role"] for message in rows[0].messages] == ["user"]
    assert load_rows(path, kind.value)[0] is kind


def test_named_columns_override(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "no", "text": "1+1?", "gold": 2}])
    kind, rows = read(path, prompt_key="text", answer_key="gold")
    assert kind is Format.columns
    assert (rows[0].messages[0]["content"], rows[0].answer, rows[0].meta) == ("1+1?", 2, {"prompt": "no"})


def test_parquet_structs_lose_their_nulls(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "name": "x"}]
    pq.write_table(pa.Table.from_pylist([{"prompt": chat}]), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[1][0].messages == tuple(chat)


BAD_FILES = [
    ("a.jsonl", b"", r"a\.jsonl: holds no rows"),
    ("a.jsonl", b"\n\n", r"a\.jsonl: holds no rows"),
    ("a.json", b"[]", r"a\.json: holds no rows"),
    ("a.json", b'[{"prompt": "x"}', r"a\.json:1: not valid JSON or truncated"),
    ("a.json", b"{}", r"must hold one array"),
    ("a.jsonl", b'{"prompt": "x"}\n{"prompt": "y', r"a\.jsonl:2: the last line is cut off"),
    ("a.jsonl", b'{"prompt": "x"}\nnonsense\n{"prompt": "y"}\n', r"a\.jsonl:2: not valid JSON"),
    ("a.jsonl", b'{"prompt": "x"}\n[1]\n', r"a\.jsonl:2: a row must be an object"),
    ("a.jsonl", b'{"prompt": "\xff"}\n', r"not UTF-8"),
    ("a.jsonl.gz", gzip.compress(b'{"prompt": "x"}\n' * 99, mtime=0)[:-9], r"corrupt or truncated gzip"),
    ("a.jsonl.gz", b"", r"holds no rows"),
    ("a.jsonl.gz", b"no gzip", r"corrupt or truncated gzip"),
    ("a.parquet", b"", r"not a readable parquet file"),
    ("a.parquet", b"PAR1 and then nothing", r"not a readable parquet file"),
    ("a.csv", b"a,b", r"unknown kind of file"),
    ("a.jsonl", b'{"prompt": ""}\n', r"a\.jsonl:1: the prompt is empty"),
    ("a.jsonl", b'{"prompt": 3}\n', r"a\.jsonl:1: the prompt must be a text or a list"),
    ("a.jsonl", b'{"prompt": []}\n', r"a\.jsonl:1: the prompt must be a text or a list"),
    ("a.jsonl", b'{"chosen": "x", "rejected": "y"}\n', r"a\.jsonl:1: no known format.*chosen, rejected"),
    ("a.jsonl", b'{"prompt": "x"}\n{"text": "y"}\n', r"a\.jsonl:2: no column 'prompt'; columns present: text"),
    ("a.jsonl", b'{"question": "x", "answer": "#### 1"}\n{"question": "y"}\n', r":2: no column 'answer'"),
    ("a.jsonl", b'{"question": "x", "answer": "#### 1"}\n{"question": "y", "answer": "2"}\n', r":2: .*no '#### N'"),
    ("a.jsonl", b'{"prompt": "x", "reward_model": {"style": "rule"}}\n', r":1: no column 'reward_model.ground_truth'"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)


def test_truncated_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": [str(i) for i in range(5000)]}), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"a\.parquet: not a readable parquet"):
        read(path)


def test_missing_file_folder_column_and_format(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        read(tmp_path)
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "x"}])
    with pytest.raises(DataError, match=r"a\.jsonl:1: no column 'gold'; columns present: prompt"):
        read(path, answer_key="gold")
    with pytest.raises(DataError, match="no column 'txt'"):
        read(path, prompt_key="txt")
    with pytest.raises(DataError, match="unknown; known are auto, gsm8k"):
        read(path, format="gms8k")
    with pytest.raises(DataError, match=r"needs data\.prompt_key"):
        read(path, format="columns")


def test_texts_to_imitate(tmp_path: Path) -> None:
    rows: list[tuple[dict[str, Any], str]] = [
        ({"prompt": "1+1=", "completion": "2"}, "2"),
        ({"prompt": "1+1=", "completion": [{"role": "assistant", "content": "2"}]}, "2"),
        ({"messages": [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}]}, "2"),
        ({"input": "1+1=", "output": "2"}, "2"),
    ]
    for number, (row, target) in enumerate(rows):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps(row) + "\n")
        (read_row,) = load_rows(path)[1]
        assert (read_row.target, read_row.messages) == (target, ({"role": "user", "content": "1+1="},))
        assert "completion" not in read_row.meta and "output" not in read_row.meta


def test_conversation_without_an_answer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "1+1="}]}) + "\n")
    with pytest.raises(DataError, match="end with an answer"):
        list(load_rows(path)[1])


def test_domain_is_read_where_it_is_named(tmp_path: Path) -> None:
    """G-OPD's released rows name the teacher in a nested column."""
    row = {
        "prompt": CHAT,
        "reward_model": {"ground_truth": "2"},
        "data_source": "deepmath",
        "extra_info": {"opd_teacher": "code", "ref_solution": "s"},
    }
    path = write_jsonl(tmp_path / "a.jsonl", [row])
    assert [by_source.domain for by_source in read(path)[1]] == ["deepmath"]
    by_column = read(path, domain_key="extra_info.opd_teacher")[1][0]
    assert by_column.domain == "code" and by_column.meta["extra_info"]["ref_solution"] == "s"
    with pytest.raises(DataError, match=r"a.jsonl:1: no text at data.domain_key=extra_info.teacher"):
        read(path, domain_key="extra_info.teacher")


@pytest.mark.parametrize(
    ("answer", "target"), [(7, "7"), (-3, "-3"), (2.5, "2.5"), (4.0, "4"), (True, None), ([1], None), ("7", "7")]
)
def test_an_answer_that_is_a_number_is_imitated_as_it_is_written(answer: object, target: str | None) -> None:
    row = named(Columns({"q": "a?", "a": answer}, "line 1", "q", "a", ""))
    assert row.target == target and row.answer == answer
