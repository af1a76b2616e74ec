"""Rows that say in another spelling what a run must not train on by the letter, or must not leave out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raylign.config.schema import DataConfig
from raylign.data.pair_rows import pair_text
from raylign.data.prompts import load_prompts
from raylign.data.readers import load_rows
from raylign.data.rows import DataRow
from raylign.data.templates import filled
from raylign.errors import DataError
from raylign.recipes.stages.demonstrations import demonstrations

USER, SAID = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "yes"}
NO = {**SAID, "content": "no"}
REVERSED = {"content": "a" * 300, "role": "user"}


def rows(path: Path, *raw: dict[str, Any], **keys: str) -> list[DataRow]:
    path.write_text("".join(json.dumps(row) + "\n" for row in raw))
    return list(load_rows(path, **keys)[1])


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ('[ {"role": "user", "content": "Hi"}]', (USER,)),
        (json.dumps([REVERSED]), ({"role": "user", "content": "a" * 300},)),
        (' [\n{"from": "human", "value": "Hi"}]', (USER,)),
        ('[{"a": 1}]', ({"role": "user", "content": '[{"a": 1}]'},)),
        ("[{x} | x > 2]", ({"role": "user", "content": "[{x} | x > 2]"},)),
    ],
)
def test_a_prompt_that_is_the_json_of_messages_is_these(tmp_path: Path, text: str, messages: tuple[Any, ...]) -> None:
    (row,) = rows(tmp_path / "a.jsonl", {"prompt": text, "completion": json.dumps([SAID])})
    assert (row.messages, row.target) == (messages, "yes")


def test_a_python_list_as_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: the prompt is a Python list written as text"):
        rows(tmp_path / "a.jsonl", {"prompt": str([USER]), "completion": "x"})


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"messages": [USER, {**SAID, "weight": 0.5}]}, "weight=0.5"),
        ({"messages": [USER, {**SAID, "loss": False}]}, "loss=False"),
        ({"messages": [USER, {**SAID, "prefix": True}]}, "prefix=True"),
        ({"prompt": "Hi", "completion": "no", "label": False}, "label=false"),
        ({"instruction": "a", "input": "b", "context": "c", "output": "d"}, "input and context both"),
    ],
)
def test_what_is_said_about_the_loss_or_twice_is_refused(tmp_path: Path, row: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=f"a.jsonl:1.*{why}"):
        rows(tmp_path / "a.jsonl", row)


def test_a_weight_of_one_is_no_matter(tmp_path: Path) -> None:
    rows(tmp_path / "a.jsonl", {"messages": [USER, {**SAID, "weight": 1, "train": True, "prefix": False}]})


WHOLE = {"chosen": json.dumps([USER, SAID]), "rejected": json.dumps([USER, NO])}
PAIRS: dict[str, dict[str, Any]] = {
    "conversations as JSON text": WHOLE,
    "the same beside a prompt": {"prompt": "Hi", **WHOLE},
    "dialogue as prompt": {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": "yes", "rejected": "no"},
    "dialogues beside a prompt": {
        "prompt": "Hi", "chosen": "\n\nHuman: Hi\n\nAssistant: yes", "rejected": "\n\nHuman: Hi\n\nAssistant: no"
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_in_other_spellings(name: str) -> None:
    pair = pair_text(PAIRS[name], "a:1")
    assert pair is not None
    assert (pair.messages, pair.chosen, pair.rejected) == ((USER,), "yes", "no")


def test_answers_of_several_messages_follow_their_prompt() -> None:
    more = {"role": "user", "content": "more"}
    pair = pair_text({"prompt": [USER], "chosen": [SAID, more, SAID], "rejected": [SAID, more, NO]}, "a:1")
    assert pair is not None
    assert pair.messages == (USER, SAID, more)


@pytest.mark.parametrize("prompt", ["Bye", [{"role": "system", "content": "Rhyme."}, USER]])
def test_a_prompt_that_the_conversations_do_not_repeat_is_not_dropped(prompt: Any) -> None:
    with pytest.raises(DataError, match="a:1: prompt and chosen begin differently"):
        pair_text({"prompt": prompt, "chosen": [USER, SAID], "rejected": [USER, NO]}, "a:1")


@pytest.mark.parametrize(
    ("fields", "why"), [({"more": None}, "more is null"), ({"more": ["a"]}, "more is a list, not a text")]
)
def test_templates_write_no_nulls_and_no_python(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        filled([USER], "{prompt} {more}", "", fields, "a:1")
    (message,) = filled([USER], "{prompt} {more[0]} {n:.1f}", "", {"more": ["a"], "n": 2}, "a:1")
    assert message["content"] == "Hi a 2.0"


@pytest.mark.parametrize("text", ['["34"]', '{"target": ["34"]}', '{"target": "34"}'])
def test_gold_answers_as_json_text(tmp_path: Path, text: str) -> None:
    verl = {"data_source": "a/math", "prompt": [USER], "reward_model": {"ground_truth": text}}
    assert [row.answer for row in rows(tmp_path / "a.jsonl", verl)] == ["34"]


def test_a_worked_solution_without_a_box_is_no_answer(tmp_path: Path) -> None:
    (row,) = rows(tmp_path / "a.jsonl", {"problem": "1+1?", "solution": "It is 2."})
    assert not row.verifier
    assert "do not say how" in row.doubt
    (row,) = rows(tmp_path / "a.jsonl", {"problem": "1+1?", "solution": r"It is \boxed{2}."})
    assert (row.verifier, row.doubt) == ("boxed_math", "")


def test_several_targets_of_a_prompt_are_all_imitated(tmp_path: Path, tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer, path = AutoTokenizer.from_pretrained(tiny_model), tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"prompt": "Hi", "completion": text}) + "\n" for text in ("yes", "no", "yes")))
    prompts = load_prompts(DataConfig(path=str(path), holdout=0), tokenizer, seed=0)
    assert (prompts.report.train, prompts.report.duplicates) == (1, 1)
    samples = demonstrations(prompts.train, tokenizer)
    said = [tokenizer.decode(one.token_ids[one.loss_mask], skip_special_tokens=True) for one in samples]
    assert (said, [one.group for one in samples]) == (["yes", "no"], [0, 1])


@pytest.mark.parametrize(
    ("row", "template", "why"),
    [
        ({"question": "Who?", "answer": "Ann", "context": "Ann did it."}, "", "column 'context' stands in no message"),
        (
            {"question": "Which?", "answer": "A", "choices": ["red", "blue"]},
            "",
            "column 'choices' stands in no message",
        ),
        ({"question": "Which?", "answer": "A", "options": {"text": ["red"], "label": ["A"]}}, "", "column 'options'"),
        ({"question": "Who?", "answer": "Ann", "context": "Ann did it."}, "{context}\n{prompt}", ""),
        ({"question": "red or blue?", "answer": "A", "choices": ["red", "blue"]}, "", ""),
        ({"question": "Who?", "answer": "Ann", "context": None, "options": []}, "", ""),
    ],
)
def test_material_that_no_message_shows_is_refused(
    tmp_path: Path, row: dict[str, Any], template: str, why: str
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (read,) = load_rows(tmp_path / "a.jsonl")[1]
    if not why:
        assert filled(read.messages, template, "", read.fields, read.place)
        return
    with pytest.raises(DataError, match=rf"a\.jsonl:1: .*{why}"):
        filled(read.messages, template, "", read.fields, read.place)
