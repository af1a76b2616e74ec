"""The rows that a stage writes: given back exactly by every reader, whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.config.schema import DataConfig
from raylign.data.pairs import Truncation, load_pairs
from raylign.data.prompts import load_prompts
from raylign.data.readers import Format, load_rows
from raylign.data.rendered import rows_of
from raylign.data.rows import DataRow, write_rows
from raylign.errors import DataError

ASKED = ({"role": "user", "content": "1+1?"},)
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"b": 1, "a": None}}}],
}
ROWS = (
    DataRow(messages=ASKED, place="a:1"),
    DataRow(messages=ASKED, place="a:2", answer="2", target="", verifier="exact", domain="sums", doubt="a:2: no"),
    DataRow(messages=ASKED, place="a:3", answer=["4", "four"], target=CALL, tools=(TOOL,), complete=True),
    DataRow(messages=({"role": "system", "content": "é\u2028\r\n"}, *ASKED, CALL), place="a:4", answer=18.0),
    DataRow(messages=ASKED, place="", answer={"target": [1]}, meta={"level": 3, "deep": {"a": [1, {"b": None}]}}),
    DataRow(messages=ASKED, place="", answer=0, meta={"pair": (1, (2,)), "by": {1: "x", (2, 3): "y"}, "raw": b"\xff"}),
    DataRow(messages=ASKED, place="", answer=False, meta={"all": {1, 2}, "~tuple": [1], "only": {"~set": [1]}}),
    DataRow(messages=ASKED, place="", fields={"question": "1+1", "n": 2}, target='[{"role": "user"}]'),
    DataRow(messages=ASKED, place="", meta={"wide": 2**70, "tiny": -0.0, "chosen": "2", "rejected": CALL}),
)


def read(path: Path, **keys: Any) -> list[DataRow]:
    kind, rows = load_rows(path, **keys)
    assert kind is Format.raylign
    return list(rows)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    assert write_rows(path, iter(ROWS)) == len(ROWS)
    again = read(path)
    assert tuple(again) == ROWS
    for old, new in zip(ROWS, again, strict=True):
        assert repr(replace(new, place="")) == repr(replace(old, place="")), "types and orders of keys too"
    assert [row.place for row in again] == [f"{path}:{number}" for number in range(1, len(ROWS) + 1)]
    assert [entry.name for entry in path.parent.iterdir()] == ["rows.jsonl"]


def test_numbers_of_numpy_and_nan_come_back_as_plain_ones(tmp_path: Path) -> None:
    meta = {"rate": np.float64(0.25), "count": np.int64(3), "flag": np.bool_(True), "gap": math.nan}
    write_rows(tmp_path / "a.jsonl", [DataRow(messages=ASKED, place="", meta=meta)])
    (row,) = read(tmp_path / "a.jsonl")
    assert math.isnan(row.meta["gap"]) and {**row.meta, "gap": 0} == {**meta, "gap": 0}
    assert [type(value) for value in row.meta.values()] == [float, int, bool, float]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"meta": {"seen": [{"at": np.zeros(2)}]}}, r"row 1 \(of x:7\)\.meta\.seen\[0\]\.at holds a ndarray.*tolist"),
        ({"meta": {"say": print}}, r"meta\.say holds a builtin_function"),
        ({"answer": "half \ud83d"}, "half a surrogate pair"),
        ({"messages": ({"role": "gpt", "content": "x"},)}, "no message with the role system, user"),
        ({"messages": ({"role": "assistant"},)}, "says nothing"),
        ({"messages": ()}, "messages: holds none"),
        ({"target": {"role": "user", "content": "x"}}, "target: .* with the role assistant"),
        ({"target": 3}, "target must be a text or an assistant's message, not '3'"),
        ({"tools": ("add",)}, "tools must be objects"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_rows(path, ROWS[:1])
    before = path.read_bytes()
    with pytest.raises(DataError, match=message):
        write_rows(path, [DataRow(**{"messages": ASKED, "place": "x:7", **row})])
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    def dying() -> Iterator[DataRow]:
        yield ROWS[0]
        raise RuntimeError("the engine died")

    for path, rows, error, message in (
        (tmp_path / "a.jsonl", dying(), RuntimeError, "engine died"),
        (tmp_path / "b.jsonl", iter(()), DataError, "no row to write"),
        (tmp_path / "c.json", iter(ROWS), DataError, r"end in \.jsonl"),
    ):
        with pytest.raises(error, match=message):
            write_rows(path, rows)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.*Not a directory|file.*exists.* is not written"):
        write_rows(tmp_path / "file" / "d.jsonl", ROWS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"raylign": 2}, r"a\.jsonl:1: raylign=2 is no row of version 1; fix: write the file anew"),
        ({"level": 3}, "the key 'level' is none of .*fix: put it into meta"),
        ({"verifier": None}, "verifier must be a text, not 'None'"),
        ({"verifier": ...}, "no key 'verifier'"),
        ({"complete": "yes"}, "complete must be true or false"),
        ({"messages": "1+1?"}, "messages must be a list"),
    ],
)
def test_a_line_that_is_no_row_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    line = {"raylign": 1, "messages": list(ASKED), "verifier": ""} | change
    path = write(tmp_path / "a.jsonl", [{name: value for name, value in line.items() if value is not ...}])
    with pytest.raises(DataError, match=message):
        read(path)


def test_the_mark_goes_before_the_settings_of_other_files(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_rows(path, [DataRow(messages=ASKED, place="", answer="2", meta={"prompt": "other", "question": "3+3?"})])
    for keys in ({"format": "gsm8k"}, {"prompt_key": "question"}, {"answer_key": "meta.prompt", "domain_key": "x"}):
        assert [row.answer for row in read(path, **keys)] == ["2"]
    assert read(path)[0].verifier == "", "nothing is guessed"
    assert read(path, verifier="boxed_math")[0].verifier == "boxed_math"
    mixed = tmp_path / "b.jsonl"
    mixed.write_text('{"prompt": "1+1?", "answer": "2"}\n' + path.read_text())
    with pytest.raises(DataError, match=r"b\.jsonl:2: a row that a stage wrote, in a file of trl"):
        list(load_rows(mixed)[1])
    mixed.write_text(path.read_text() + '{"prompt": "1+1?", "answer": "2"}\n')
    with pytest.raises(DataError, match=r"b\.jsonl:2: raylign=None is no row"):
        list(load_rows(mixed)[1])


def test_prompts_written_and_read_are_the_same_prompts(tmp_path: Path, tokenizer: Any) -> None:
    rows = [
        {"prompt": "a", "answer": "1", "task": "t", "level": 3, "target": 24},
        {"prompt": "b", "answer": "x y", "task": "", "note": [1, None]},
        {"prompt": "c", "completion": "left"},
        {"prompt": "c", "completion": "right"},
    ]
    config = DataConfig(
        path=str(write(tmp_path / "a.jsonl", rows[:2])), holdout=0, template="{prompt} now", system="Be brief."
    )
    imitated = replace(config, path=str(write(tmp_path / "b.jsonl", rows[2:])))
    for settings in (config, imitated):
        first = load_prompts(settings, tokenizer, 1)
        path = tmp_path / "stage.jsonl"
        write_rows(path, (row for prompt in first.train for row in rows_of(prompt)))
        again = load_prompts(replace(settings, path=str(path), prompt_key="nowhere"), tokenizer, 1)
        for old, new in zip(first.train, again.train, strict=True):
            assert (new.id, new.messages, new.answer, new.domain) == (old.id, old.messages, old.answer, old.domain)
            assert new.meta == old.meta and new.token_ids.tolist() == old.token_ids.tolist()
        assert again.report.complete == again.report.rows == 2 and "2 complete" in str(again.report)
        assert "complete" not in str(first.report)


def test_a_template_goes_around_rows_that_are_not_complete(tmp_path: Path, tokenizer: Any) -> None:
    row = DataRow(messages=ASKED, place="", fields={"unit": "apples"})
    write_rows(tmp_path / "a.jsonl", [row, replace(row, answer="2", complete=True)])
    config = DataConfig(path=str(tmp_path / "a.jsonl"), holdout=0, template="{prompt} in {unit}")
    texts = [prompt.messages[-1]["content"] for prompt in load_prompts(config, tokenizer, 1).train]
    assert texts == ["1+1? in apples", "1+1?"]


def test_pairs_are_rows_with_chosen_and_rejected(tmp_path: Path, tokenizer: Any) -> None:
    meta = {"chosen": "two", "rejected": {"role": "assistant", "content": "3"}, "user": 7}
    row = DataRow(messages=ASKED, place="", meta=meta)
    path = tmp_path / "pairs.jsonl"
    write_rows(path, [row, replace(row, messages=({"role": "user", "content": "more"},), complete=True)])
    config = DataConfig(path=str(path), holdout=0, template="{prompt}!", prompt_key="nowhere")
    pairs = load_pairs(config, tokenizer, 64, Truncation.drop, 1).train
    assert [pair.prompt.messages[-1]["content"] for pair in pairs] == ["1+1?!", "more"]
    assert [tokenizer.decode(pairs[0].chosen), tokenizer.decode(pairs[0].rejected)] == ["two<|end|>", "3<|end|>"]
    for bad, message in (
        ({"chosen": "x"}, r"meta\.rejected of a pair must be a text"),
        ({**meta, "chosen_score": 1, "rejected_score": 2}, "turned round"),
    ):
        write_rows(path, [replace(row, meta=bad)])
        with pytest.raises(DataError, match=message):
            load_pairs(config, tokenizer, 64, Truncation.drop, 1)
