"""Which rows are one prompt, which are two, and that no question is both held out and trained on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.config.schema import DataConfig
from raylign.contracts import RowGenerator
from raylign.data.prompt_identity import BOOKKEEPING, canonical, prompt_id, question_id
from raylign.data.prompts import load_prompts
from raylign.data.rendered import render
from raylign.data.rows import DataRow
from raylign.data.source import DatasetSource
from raylign.errors import CheckpointError, DataError
from raylign.records import Payload

ASKED = ({"role": "user", "content": "1+1?"},)
PLAIN = DataRow(messages=ASKED, place="a:1", answer="2")


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def row(**values: Any) -> DataRow:
    return DataRow(**{"messages": ASKED, "place": "a:2", "answer": "2", **values})


OTHERS = [
    {"messages": ({"role": "user", "content": "1+2?"},)},
    {"answer": "two"},
    {"answer": 2},
    {"domain": "sums"},
    {"verifier": "exact"},
    {"tools": ({"type": "function", "function": {"name": "add", "parameters": {}}},)},
    {"meta": {"level": 3}},
    {"meta": {"user_id": 7}},
    {"meta": {"extra_info": {"user": {"id": 7}}}},
    {"meta": {"users": ["and 3?"]}},
    {"meta": {"recorded": [{"name": "add", "arguments": {"id": 1}}]}},
    {"meta": {"image": b"\x89PNG"}},
    {"meta": {"image": Payload(kind="image", content=np.zeros((2, 2), np.uint8))}},
    {"meta": {"latents": np.arange(3.0)}},
    {"meta": {1: "a", "b": 2}},
]


@pytest.mark.parametrize("values", OTHERS)
def test_whatever_a_part_can_read_makes_another_prompt(values: dict[str, Any], tokenizer: Any) -> None:
    rendered = render([PLAIN, row(**values), row(**values)], "", DataConfig(), tokenizer)
    assert len(rendered.prompts) == 2 and rendered.duplicates == 1
    assert len({prompt.id for prompt in rendered.prompts}) == 2


def test_large_values_are_told_apart_by_all_they_hold() -> None:
    first, second = np.zeros((400, 400)), np.zeros((400, 400))
    second[200, 200] = 1.0  # NumPy's own text leaves out the middle
    ids = {prompt_id({"image": image}, "a:1") for image in (first, second, first.astype(np.float32), first[:, :399])}
    assert len(ids) == 4
    assert prompt_id({"image": first}, "a:1") == prompt_id({"image": first.copy(order="F")}, "a:2")


@pytest.mark.parametrize("name", sorted(BOOKKEEPING))
def test_bookkeeping_makes_no_other_prompt(name: str, tokenizer: Any) -> None:
    rows = [PLAIN, row(meta={name: 1}), row(meta={name.upper(): 2, "extra_info": {}})]
    rows += [row(meta={"extra_info": {name: 3}}), row(meta={"metadata": {name: 4, "none": None}, "extra_info": {}})]
    assert [len(render(some, "", DataConfig(), tokenizer).prompts) for some in (rows[:2], rows)] == [1, 1]


def test_rows_that_differ_in_their_target_are_one_prompt(tokenizer: Any) -> None:
    rows = [row(target="two", meta={"idx": 1}), row(target="2", meta={"idx": 2}), row(target="2", meta={"idx": 3})]
    rendered = render(rows, "", DataConfig(), tokenizer)
    (prompt,) = rendered.prompts
    assert prompt.meta["targets"] == ("two", "2") and rendered.duplicates == 1


def test_an_id_is_the_same_in_every_process_and_for_every_spelling() -> None:
    meta = {"b": {"x": {1, 2, 3}, "w": "é"}, "a": (1, 2), 3: None, "raw": b"x"}
    again = {"raw": b"x", "a": [1, 2], "b": {"w": "é", "x": {3, 2, 1}}}
    here = prompt_id(meta, "a:1", ASKED, "2")
    assert here == prompt_id(again, "b:7", list(ASKED), "2")
    words = "from raylign.data.prompt_identity import prompt_id; "
    words += f"print(prompt_id({meta!r}, 'a:1', {ASKED!r}, '2'))"
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", words], capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        assert done.stdout.strip() == here, done.stderr


def test_a_value_without_a_lasting_form_is_refused() -> None:
    class Door:
        pass

    for value in (Door(), {"inner": [Door()]}, lambda: 0):
        with pytest.raises(DataError, match=r"a\.jsonl:3: holds a (Door|function), which looks different in every"):
            prompt_id({"door": value}, "a.jsonl:3")
    assert canonical({1: "a", "b": {(1, 2): 3}}) == canonical({"b": {(1, 2): 3}, 1: "a"})


@pytest.mark.parametrize(
    ("beside", "leaks"),
    [
        ({}, True),
        ({"level": 3}, True),
        ({"answer": "two"}, True),
        ({"extra_info": {"split": "train", "index": 9}}, True),
        ({"tools": [{"type": "function", "function": {"name": "add", "parameters": {}}}]}, True),
        ({"users": ["and then?"]}, False),  # another dialogue that begins alike
        ({"map": "PG"}, False),
    ],
)
def test_a_question_that_is_held_out_is_not_trained_on(
    beside: dict[str, Any], leaks: bool, tmp_path: Path, tokenizer: Any
) -> None:
    held = {"prompt": "number 1", "answer": "1", "task": "x"}
    train = write(tmp_path / "a.jsonl", [held | beside, held | {"prompt": "number 2"}])
    config = DataConfig(path=train, eval_path=write(tmp_path / "b.jsonl", [held]), verifier="exact")
    prompts = load_prompts(config, tokenizer, 1)
    assert (len(prompts.train), prompts.report.leaked) == ((1, 1) if leaks else (2, 0))


@pytest.mark.parametrize(("train", "held"), [("{prompt} Box it.", ""), ("", "{prompt} Box it.")])
def test_a_question_is_known_without_its_template(train: str, held: str, tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": f"number {number}"} for number in range(3)]
    config = DataConfig(path=write(tmp_path / "a.jsonl", rows), holdout=0, template=train)
    some = DataConfig(path=write(tmp_path / "b.jsonl", rows[:1]), holdout=0, template=held)
    prompts = load_prompts(config, tokenizer, 1, held=load_prompts(some, tokenizer, 1).train)
    assert (len(prompts.train), prompts.report.leaked) == (2, 1)
    said = [{"prompt": "Translate.", "text": f"number {number}"} for number in range(3)]
    config = DataConfig(path=write(tmp_path / "a.jsonl", said), holdout=1, template="{prompt} {text}")
    assert len(load_prompts(config, tokenizer, 1).train) == 2, "what differs stands in the template"


def test_what_is_held_out_depends_on_the_tasks_alone(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": f"number {i}", "answer": str(i), "task": ""} for i in range(30)]
    known = load_prompts(DataConfig(path=write(tmp_path / "a.jsonl", rows), holdout=6), tokenizer, 1)
    asked = [prompt.messages for prompt in known.holdout]
    beside = [entry | {"level": i % 3, "idx": i} for i, entry in enumerate(reversed(rows))]
    other = load_prompts(DataConfig(path=write(tmp_path / "b.jsonl", beside), holdout=6), tokenizer, 2)
    assert [prompt.messages for prompt in other.holdout] == asked
    twice = beside + [entry | {"level": 9} for entry in beside]
    both = load_prompts(DataConfig(path=write(tmp_path / "c.jsonl", twice), holdout=6), tokenizer, 2)
    held = {str(prompt.messages) for prompt in both.holdout}
    assert len(held) == 3 and not held & {str(prompt.messages) for prompt in both.train}
    assert (both.report.leaked, both.report.holdout, both.report.train) == (0, 6, 54)
    odd = load_prompts(DataConfig(path=write(tmp_path / "c.jsonl", twice), holdout=5), tokenizer, 2)
    assert (odd.report.leaked, odd.report.holdout, odd.report.train) == (1, 5, 54)


class Guess(RowGenerator):
    """Tasks that all begin with the same words."""

    @dataclass
    class Config:
        """No settings."""

    def rows(self, size: int, seed: int) -> Iterator[DataRow]:
        for number in range(size):
            yield DataRow(messages=({"role": "user", "content": "Guess."},), place="", meta={"env_seed": number})


def test_tasks_that_only_their_environment_tells_apart(tokenizer: Any) -> None:
    config = DataConfig(generator={"_target_": f"{__name__}.Guess"}, size=4, holdout=0)
    assert len(load_prompts(config, tokenizer, 1).train) == 4
    config.holdout = 1
    with pytest.raises(DataError, match=r"4 prompts and data.holdout=1 leave none .* 3 ask what .* set data.holdout=0"):
        load_prompts(config, tokenizer, 1)


def test_a_checkpoint_knows_the_columns_of_its_rows(tmp_path: Path, tokenizer: Any) -> None:
    def source(**beside: Any) -> DatasetSource:
        path = write(tmp_path / "a.jsonl", [{"prompt": f"number {i}", **beside} for i in range(3)])
        prompts = load_prompts(DataConfig(path=path, holdout=0), tokenizer, 1).train
        return DatasetSource(DatasetSource.Config(), prompts=prompts, seed=1)

    state = source(level=1, idx=1).state_dict()
    source(level=1, idx=5).load_state_dict(state)
    with pytest.raises(CheckpointError, match="other data"):
        source(level=2, idx=1).load_state_dict(state)


def test_a_question_is_what_is_asked_and_shown() -> None:
    known = question_id(ASKED, {"level": 1, "verifier": "exact"}, "a:1")
    assert question_id(ASKED, {"level": 2}, "a:1") == known
    assert question_id(ASKED, {"images": [b"1"]}, "a:1") != question_id(ASKED, {"images": [b"2"]}, "a:1") != known
