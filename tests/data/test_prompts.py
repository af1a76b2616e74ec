"""Rows -> prompts: rendering, limits, duplicates, held-out split, procedural tasks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raylign.config.schema import DataConfig
from raylign.data.prompts import load_prompts, refuse_doubts
from raylign.errors import DataError

ADDITION: dict[str, Any] = {
    "min_terms": 2,
    "max_terms": 2,
    "min_digits": 2,
    "max_digits": 2,
    "operators": ["+"],
    "allow_parentheses": False,
    "allow_negation": False,
}


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_template_system_and_rendering(tmp_path: Path, tokenizer: Any) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "1{+}1", "answer": "2", "info": 0, "unit": "apples"}])
    config = DataConfig(path=path, holdout=0, template="{prompt} in {unit}", system="Count.")
    prompt = load_prompts(config, tokenizer, 1).train[0]
    text = "<|system|>Count.<|end|><|user|>1{+}1 in apples<|end|><|assistant|>"
    assert tokenizer.decode(prompt.token_ids) == text
    assert prompt.token_ids.dtype == "int32" and prompt.token_ids.ndim == 1
    assert prompt.token_ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert prompt.meta["verifier"] == "boxed_math" and prompt.answer == "2"


def test_report_counts_what_is_dropped(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": f"number {i}", "answer": str(i), "task": ""} for i in range(20)]
    rows += [rows[3], {"prompt": "x" * 200, "answer": "1", "task": ""}]
    config = DataConfig(path=write(tmp_path / "a.jsonl", rows), holdout=5, max_prompt_tokens=100)
    prompts = load_prompts(config, tokenizer, 1)
    report = prompts.report
    assert (report.rows, report.duplicates, report.too_long, report.train, report.holdout) == (22, 1, 1, 15, 5)
    assert report.verifiers == {"boxed_math": 15} and "1 duplicate, 1 too long" in str(report)
    assert not {prompt.id for prompt in prompts.train} & {prompt.id for prompt in prompts.holdout}


def test_ids_and_holdout_depend_on_content_only(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": f"number {i}"} for i in range(30)]
    first = load_prompts(DataConfig(path=write(tmp_path / "a.jsonl", rows), holdout=6), tokenizer, 1)
    other = load_prompts(DataConfig(path=write(tmp_path / "b.jsonl", rows[::-1]), holdout=6), tokenizer, 2)
    assert [prompt.id for prompt in first.holdout] == [prompt.id for prompt in other.holdout]
    assert [prompt.id for prompt in first.train] == [prompt.id for prompt in other.train][::-1]


def test_eval_path_and_leaks(tmp_path: Path, tokenizer: Any) -> None:
    train = write(tmp_path / "a.jsonl", [{"prompt": f"number {i}"} for i in range(10)])
    held = write(tmp_path / "b.jsonl", [{"prompt": f"number {i}"} for i in range(8, 12)])
    prompts = load_prompts(DataConfig(path=train, eval_path=held), tokenizer, 1)
    assert (len(prompts.train), len(prompts.holdout), prompts.report.leaked) == (8, 4, 2)


def test_a_file_goes_before_a_task(tmp_path: Path, tokenizer: Any) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "1 + 1"}])
    both = DataConfig(path=path, task="chain_sum", task_template="{metadata[expression]}=", holdout=0)
    assert load_prompts(both, tokenizer, 1).train[0].messages[0]["content"] == "1 + 1"
    mixed = DataConfig(eval_path=path, task="chain_sum", size=5, task_template="{metadata[expression]}=")
    prompts = load_prompts(mixed, tokenizer, 1)
    assert prompts.train[0].messages[0]["content"].endswith("=") and len(prompts.train) == 5
    assert prompts.holdout[0].messages[0]["content"] == "1 + 1"


def test_size_keeps_the_first_rows(tmp_path: Path, tokenizer: Any) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": f"number {i}"} for i in range(10)])
    prompts = load_prompts(DataConfig(path=path, size=4, holdout=0), tokenizer, 1)
    assert [prompt.messages[0]["content"] for prompt in prompts.train] == [f"number {i}" for i in range(4)]


def test_impossible_settings(tmp_path: Path, tokenizer: Any) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": f"number {i}"} for i in range(4)])
    cases = [
        (
            DataConfig(path=path, holdout=4),
            "holdout=4 of 4 prompts leaves none to train on; fix: set data.holdout=3",
        ),
        (
            DataConfig(path=path, max_prompt_tokens=3),
            r"the shortest prompt has \d+ tokens, more than .*=3; fix: ",
        ),
        (DataConfig(path=path, template="{question}"), r"a\.jsonl:1: the template .*fields: prompt"),
        (DataConfig(path=path, template="{prompt"), "cannot be filled"),
        (
            DataConfig(task="chain_sum", size=4, task_template="{expression}="),
            r"template '{expr.*fields: question",
        ),
        (DataConfig(), "no data"),
        (DataConfig(task="chain_sum"), "needs data.size"),
        (DataConfig(task="chain_some", size=4), "no reasoning-gym data set"),
        (DataConfig(task="chain_sum", size=4, task_args={"min_term": 2}), "do not suit chain_sum"),
        (DataConfig(task="chain_sum", size=4, task_args={"min_terms": 0}), "do not suit chain_sum"),
    ]
    for config, message in cases:
        with pytest.raises(DataError, match=message):
            load_prompts(config, tokenizer, 1)


def test_tokenizer_without_chat_template(tmp_path: Path, tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = None
    path = write(tmp_path / "a.jsonl", [{"prompt": "x"}])
    with pytest.raises(DataError, match="no chat template"):
        load_prompts(DataConfig(path=path, holdout=0), tokenizer, 1)


def test_two_digit_addition(tokenizer: Any) -> None:
    config = DataConfig(
        task="basic_arithmetic", task_args=ADDITION, size=600, holdout=50, task_template="{metadata[expression]}="
    )
    prompts = load_prompts(config, tokenizer, 1)
    assert (len(prompts.train), len(prompts.holdout), prompts.report.duplicates) == (550, 50, 0)
    for prompt in prompts.train:
        left, right = prompt.messages[0]["content"].rstrip("=").split(" + ")
        assert int(left) + int(right) == int(prompt.answer)
        assert prompt.meta["target"] == prompt.answer and prompt.meta["entry"]["answer"] == prompt.answer
        assert prompt.meta["verifier"] == "reasoning_gym" and prompt.meta["dataset"] == "basic_arithmetic"
    assert prompts.report.longest <= 13
    again = load_prompts(config, tokenizer, 1)
    assert [prompt.id for prompt in again.train] == [prompt.id for prompt in prompts.train]
    # reasoning-gym seeds row i with seed + i, so that neighbouring seeds would nearly coincide.
    other = load_prompts(config, tokenizer, 2)
    assert len({prompt.id for prompt in other.train} & {prompt.id for prompt in prompts.train}) < 100


def test_an_exhausted_task_gives_what_there_is(tokenizer: Any) -> None:
    arguments = {**ADDITION, "min_digits": 1, "max_digits": 1}
    prompts = load_prompts(DataConfig(task="basic_arithmetic", task_args=arguments, size=500, holdout=10), tokenizer, 1)
    assert prompts.report.rows == 11 * 11


def test_real_gsm8k(tokenizer: Any, shared_data: Callable[[str], Path]) -> None:
    path = str(shared_data("gsm8k/train.jsonl"))
    prompts = load_prompts(DataConfig(path=path, eval_path=str(shared_data("gsm8k/test.jsonl"))), tokenizer, 1)
    assert (prompts.report.train, prompts.report.holdout, prompts.report.leaked) == (3000, 660, 0)
    assert all(prompt.meta["target"].replace(",", "").endswith(f"#### {prompt.answer}") for prompt in prompts.train)


def test_a_run_that_needs_a_verifier_refuses_answers_that_imply_none(tmp_path: Path, tokenizer: Any) -> None:
    towns = write(tmp_path / "a.jsonl", [{"prompt": "Capital?", "answer": "Paris"}, {"prompt": "x", "answer": "Rome"}])
    with pytest.raises(DataError, match=r"a\.jsonl:1: answers like 'Paris', 'Rome'.*data.verifier=exact.*2 such"):
        refuse_doubts(load_prompts(DataConfig(path=towns, holdout=0), tokenizer, 1))
    refuse_doubts(load_prompts(DataConfig(path=towns, holdout=0, verifier="exact"), tokenizer, 1))
    numbers = write(tmp_path / "b.jsonl", [{"prompt": "1+1", "answer": "2"}, {"prompt": "x", "answer": None}])
    with pytest.raises(DataError, match=r"b\.jsonl:2: the answer is null"):
        refuse_doubts(load_prompts(DataConfig(path=numbers, holdout=0), tokenizer, 1))
