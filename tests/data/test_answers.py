"""Which verifier a file implies, and that published files score their own right answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylign.data.answered import implied_verifier
from raylign.data.answers import implied
from raylign.data.readers import load_rows
from raylign.data.rows import DataRow
from raylign.errors import DataError

MATHS: dict[str, list[str]] = {
    "amc": ["27.0", "36.0", "45.0", "3159.0", "0.5"],
    "aime": ["025", "204", "113", "073"],
    "gaokao": [r"\frac{1}{2}", "3", r"\{1,2\}", "(-2, 1)", r"x \in (0,3)", "12 cm"],
    "college": ["$x+2$", "p - q", "10x^2-3", "y = 2x + 1", "-\\frac{3}{4}", "$1,500", "45%", "no solution"],
    "sets": ["(3, 4]", "[-2,7]", "{1,2}", "3/4", "1.5e3", "√3", "2π", "x<2", "6 - 5i"],
    "deepmath": [r"\dfrac{\pi}{2}", "Yes", "0", "2", "No", r"\infty"],
    "worked": [r"We add: \boxed{4}", r"So it is $\boxed{\frac12}$."],
}
OTHER: dict[str, list[str]] = {
    "names": ["Paris", "Ada Lovelace", "the Nile"],
    "yes or no": ["yes", "no", "no"],
    "choices": ["A", "B", "(C)", "D"],
    "trivia": ["1969", "Neil Armstrong", "July 4, 1776", "the moon"],
    "dates": ["2020-01-05", "1999-12-31", "10:30"],
    "chemistry": ["H2O", "C6H12O6", "NaCl"],
    "chess": ["e4", "Nf3", "Qxd5"],
    "code": ["print('a')", "len(x) + 1", "SELECT * FROM t"],
    "telephones": ["555-1234", "0301234567"],
    "classes": ["0", "1"] * 20,
    "paths": ["C:\\Users\\me", "/usr/bin"],
}


@pytest.mark.parametrize("name", MATHS)
def test_mathematics_is_recognised_from_the_answers(name: str) -> None:
    assert implied(MATHS[name]).verifier == "boxed_math"


@pytest.mark.parametrize("name", OTHER)
def test_of_other_answers_the_choice_is_asked_for(name: str) -> None:
    choice = implied(OTHER[name])
    assert not choice.verifier and "data.verifier" in choice.doubt
    assert implied(OTHER[name], [r"Put it in \boxed{}."] * 3).verifier == "boxed_math"


def read(path: Path, raw: list[dict[str, Any]], **keys: str) -> list[DataRow]:
    path.write_text("".join(json.dumps(row) + "\n" for row in raw))
    return list(load_rows(path, **keys)[1])


@pytest.mark.parametrize(
    ("raw", "answer", "verifier"),
    [
        ({"question": "q", "answer": 27.5}, 27.5, "boxed_math"),
        ({"problem": "q", "answer": ["4", "four"]}, ["4", "four"], "boxed_math"),
        ({"problem": "q", "answer": ["4"]}, "4", "boxed_math"),
        (
            {"question": "q", "solution": ["s"], "final_answer": ["$1$", "$x+2$"], "is_multiple_answer": True},
            "1, x+2",
            "boxed_math",
        ),
        ({"question": "q", "solution": ["s"], "final_answer": ["2"], "is_multiple_answer": False}, "2", "boxed_math"),
        ({"Problem": "q", "Answer": 25, "ID": "1"}, 25, "boxed_math"),
        ({"prompt": "q", "solution": "so\n#### 1,018"}, "1018", "gsm8k"),
        ({"prompt": "q", "answer": 2**70}, str(2**70), "boxed_math"),
    ],
)
def test_answers_of_published_layouts(tmp_path: Path, raw: dict[str, Any], answer: Any, verifier: str) -> None:
    [row] = read(tmp_path / "a.jsonl", [raw])
    assert (row.answer, row.verifier, row.doubt) == (answer, verifier, "")


def verl(answer: Any, source: str = "mine") -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": "q"}],
        "data_source": source,
        "reward_model": {"ground_truth": answer},
    }


def test_targets_of_verl_count_each_and_other_types_are_named(tmp_path: Path) -> None:
    [row] = read(tmp_path / "a.jsonl", [verl({"target": ["4", "5"]})])
    assert (row.answer, row.verifier) == (["4", "5"], "boxed_math")
    [row] = read(tmp_path / "a.jsonl", [verl({"target": ["Paris"]})], verifier="exact")
    assert (row.answer, row.doubt) == ("Paris", "")
    for wrong in ({"a": 1}, [], [["x"]], [None], float("nan"), [float("-inf")]):
        [_, row] = read(tmp_path / "a.jsonl", [verl("4", "math"), verl(wrong, "math")])
        assert "a.jsonl:2: the answer is" in row.doubt


def test_every_source_of_a_mixed_file_is_recognised_by_itself(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.jsonl", [verl("4", "sums"), verl("Paris", "towns"), verl("5", "sums")])
    assert [row.verifier for row in rows] == ["boxed_math", "", "boxed_math"]
    assert not rows[0].doubt and "a.jsonl:2" in rows[1].doubt


def test_integers_beside_a_null_stay_integers(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a", "b", "c"], "answer": pa.array([18.0, None, 20.0], pa.float64())})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = list(load_rows(tmp_path / "a.parquet", verifier="exact")[1])
    assert [str(row.answer) for row in rows] == ["18", "None", "20"]
    assert "a.parquet:row 2: the answer is null" in rows[1].doubt
    [row, _] = read(tmp_path / "a.jsonl", [{"prompt": "a", "answer": 18.0}, {"prompt": "b", "answer": 18.5}])
    assert row.answer == 18.0 and isinstance(row.answer, float)


@pytest.mark.parametrize(
    ("name", "verifier"),
    [("gsm8k/test.jsonl", "gsm8k"), ("math/math500.json", "boxed_math"), ("math/aime24.jsonl", "boxed_math")],
)
def test_real_evaluation_files(shared_data: Callable[[str], Path], tmp_path: Path, name: str, verifier: str) -> None:
    rows = list(load_rows(shared_data(name))[1])
    assert {row.verifier for row in rows} == {verifier} and not any(row.doubt for row in rows)
    if verifier == "boxed_math":  # the same answers beside a question say it by themselves
        bare = read(tmp_path / "a.jsonl", [{"question": "q", "answer": row.answer} for row in rows])
        assert {row.verifier for row in bare} == {"boxed_math"}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_ground_truth_inside_json_text_is_read(tmp_path: Path, suffix: str) -> None:
    raw = {**verl("4", "math"), "reward_model": '{"style": "rule", "ground_truth": "4"}', "extra_info": '{"final": 5}'}
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist([raw]), path)
    else:
        path.write_text(json.dumps(raw))
    [row] = load_rows(path)[1]
    assert (row.answer, row.verifier, row.doubt) == ("4", "boxed_math", "")
    for key, answer in (("extra_info.final", 5), ("reward_model.ground_truth", "4")):
        assert [row.answer for row in load_rows(path, answer_key=key)[1]] == [answer]
    with pytest.raises(DataError, match=r"a\..*1: no column 'extra_info\.gold'"):
        list(load_rows(path, answer_key="extra_info.gold")[1])


@pytest.mark.parametrize("model", ["{", '{"style": "rule"}', "rule", "[1]", '{"ground_truth": null}'])
def test_a_reward_model_without_a_gold_is_refused(tmp_path: Path, model: str) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:2: "):
        read(tmp_path / "a.jsonl", [verl("4"), {**verl("4"), "reward_model": model}])


@pytest.mark.parametrize("empty", ["", " \n", "$$", r"\boxed{}", r"$\boxed{ }$", ["4", ""], True, '{"value": "4"}'])
def test_answers_that_say_nothing_are_named(tmp_path: Path, empty: Any) -> None:
    [_, row] = read(tmp_path / "a.jsonl", [verl("4", "math"), verl(empty, "math")])
    assert row.doubt.startswith(f"{tmp_path / 'a.jsonl'}:2: the answer is ")
    [row] = read(tmp_path / "a.jsonl", [verl(empty)], verifier="unit_tests")
    assert row.doubt == ""  # a reward of its own may know what it means


def test_targets_as_json_text_count_for_every_verifier(tmp_path: Path) -> None:
    for name in ("exact", "boxed_math", "gsm8k"):
        [row] = read(tmp_path / "a.jsonl", [verl('{"target": ["4", "four"]}')], verifier=name)
        assert row.answer == ["4", "four"]
    [row] = read(tmp_path / "a.jsonl", [verl('["a"]')], verifier="exact")
    assert row.answer == '["a"]'


def test_two_gold_columns_that_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: answer and ground_truth say different things"):
        read(tmp_path / "a.jsonl", [{"prompt": "q", "answer": "4", "ground_truth": "5"}])
    [row] = read(tmp_path / "a.jsonl", [{"prompt": "q", "answer": 4, "ground_truth": "4"}])
    assert row.answer == 4


@pytest.mark.parametrize(
    ("source", "verifier"),
    [
        ("openai/gsm8k", "gsm8k"), ("DigitalLearningGmbH/MATH-lighteval", "boxed_math"), ("aime2024", "boxed_math"),
        ("math_dapo", "boxed_math"), ("AI-MO/NuminaMath-CoT", "boxed_math"), ("minervamath", "boxed_math"),
        ("agentica/DeepScaleR", "boxed_math"), ("hotpotqa", ""), ("", ""),
    ],
)  # fmt: skip
def test_the_name_of_a_data_set_implies_its_verifier(source: str, verifier: str) -> None:
    assert implied_verifier(source) == verifier
