"""Verdicts as an answer sheet would mark: what is right is 1, what is wrong is 0, and neither costs much."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answer_pairs import NUMERIC_RIGHT, NUMERIC_WRONG, RIGHT, WRONG

from raylign.actors.reward.alternatives import alternatives
from raylign.actors.reward.boxed import BoxedMath
from raylign.actors.reward.exact import ExactMatch
from raylign.actors.reward.marking import equal
from raylign.actors.reward.numeric import NumericAnswer
from raylign.actors.reward.response import ResponseReward, trajectory_of
from raylign.actors.reward.validate import validate
from raylign.records import Prompt


def prompt(answer: Any, text: str = "What?", **meta: Any) -> Prompt:
    chat = ({"role": "user", "content": text},)
    return Prompt(id="p", messages=chat, token_ids=np.zeros(1, np.int32), answer=answer, meta=meta)


def score(function: ResponseReward, task: Prompt, response: str) -> float:
    return function.score(task, [trajectory_of(task, response)])[0].score


@pytest.fixture(scope="module")
def boxed() -> BoxedMath:
    return BoxedMath(BoxedMath.Config())


@pytest.fixture(scope="module")
def numeric() -> NumericAnswer:
    return NumericAnswer(NumericAnswer.Config())


def mistakes(pairs: Sequence[tuple[str, str]], right: float, mark: Callable[[str, str], float]) -> list[str]:
    """The pairs that are marked otherwise, or that take more than 2 s of CPU time."""
    lines = []
    for gold, answer in pairs:
        started = time.process_time()
        given = mark(gold, answer)
        seconds = time.process_time() - started
        if given != right or seconds > 2:
            lines.append(f"{gold[:60]} <- {answer[:60]}: {given} in {seconds:.2f} s")
    return lines


def test_the_table_of_answers(boxed: BoxedMath) -> None:
    assert len(RIGHT) + len(WRONG) >= 300 and len({*RIGHT, *WRONG}) == len(RIGHT) + len(WRONG)

    def mark(gold: str, answer: str) -> float:
        return score(boxed, prompt(gold), f"So it is $\\boxed{{{answer}}}$.")

    assert mistakes(RIGHT, 1.0, mark) == [] and mistakes(WRONG, 0.0, mark) == []
    assert mistakes([(gold, gold) for gold, _ in (*RIGHT, *WRONG)], 1.0, mark) == []


def test_the_table_of_gsm8k(numeric: NumericAnswer) -> None:
    def mark(gold: str, response: str) -> float:
        return score(numeric, prompt(gold), response)

    assert mistakes(NUMERIC_RIGHT, 1.0, mark) == [] and mistakes(NUMERIC_WRONG, 0.0, mark) == []


def test_what_sympy_cannot_compare_is_wrong_while_the_gold_can(
    boxed: BoxedMath, monkeypatch: pytest.MonkeyPatch
) -> None:
    import raylign.actors.reward.expressions as expressions

    whole = expressions._equal_numbers

    def raising(gold: Any, given: Any) -> bool:
        if "sqrt(7)" in f"{gold} {given}":
            raise ZeroDivisionError("sympy")
        return whole(gold, given)

    monkeypatch.setattr(expressions, "_equal_numbers", raising)
    assert score(boxed, prompt(r"\sqrt{5}"), r"\boxed{\sqrt{7}}") == 0.0
    with pytest.raises(ValueError, match=r"gold answer '\\\\sqrt\{7\}' cannot be compared"):
        score(boxed, prompt(r"\sqrt{7}"), r"\boxed{\sqrt{5}}")


def test_a_gold_that_costs_too_much_is_an_error_and_any_other_still_counts(boxed: BoxedMath) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        score(boxed, prompt("10!!!!"), r"\boxed{4}")
    assert score(boxed, prompt("10!!!!"), r"\boxed{10!!!!}") == 1.0
    assert score(boxed, prompt(["10!!!!", "4"]), r"\boxed{4}") == 1.0
    assert score(boxed, prompt(["10!!!!", "4"]), r"\boxed{5}") == 0.0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Paris", ("Paris",)),
        (4, ("4",)),
        (0.5, ("0.5",)),
        (18.0, ("18", "18.0")),
        (["4", "four", 4], ("4", "four")),
        (np.array(["4", "four"]), ("4", "four")),
        (np.int64(4), ("4",)),
        ({"target": ["Paris", "paris"]}, ("Paris", "paris")),
        ({"ground_truth": "4"}, ("4",)),
        (("a", None, ""), ("a",)),
    ],
)
def test_gold_answers_of_every_shape(answer: Any, expected: tuple[str, ...]) -> None:
    assert alternatives(answer) == expected


@pytest.mark.parametrize("answer", [{"text": "4"}, {"target": "4", "ground_truth": "4"}, True, [["4"]], [{"a": 1}], 4j])
def test_other_gold_answers_are_refused_before_a_run(answer: Any, boxed: BoxedMath, numeric: NumericAnswer) -> None:
    for function in (boxed, numeric, ExactMatch(ExactMatch.Config())):
        (problem,) = validate(function, [prompt(answer)])
        assert "must be a text, a number, or a list" in problem


@pytest.mark.parametrize("answer", [None, "", [], [None]])
def test_no_gold_answer_is_an_error(answer: Any, boxed: BoxedMath, numeric: NumericAnswer) -> None:
    for function in (boxed, numeric, ExactMatch(ExactMatch.Config())):
        with pytest.raises(ValueError, match="no gold answer"):
            score(function, prompt(answer), "1")


def test_any_of_several_golds_counts(boxed: BoxedMath, numeric: NumericAnswer) -> None:
    exact = ExactMatch(ExactMatch.Config())
    golds = ["0.5", r"\sqrt{7}"]
    assert [score(boxed, prompt(golds), f"\\boxed{{{text}}}") for text in ("1/2", r"\sqrt7", "7")] == [1.0, 1.0, 0.0]
    assert [score(numeric, prompt({"target": [3, 4]}), text) for text in ("#### 4", "#### 5")] == [1.0, 0.0]
    assert [score(exact, prompt(["Paris", "paris"]), text) for text in ("paris", "Rome", "['Paris', 'paris']")] == [
        1,
        0,
        0,
    ]
    assert score(exact, prompt(18.0), "18") == 1.0
    for function in (boxed, numeric, exact):
        assert validate(function, [prompt(["4", "5"]), prompt(4), prompt({"target": ["4"]})]) == []


def test_published_solutions_are_marked_as_their_authors_did(
    numeric: NumericAnswer, shared_data: Callable[[str], Path]
) -> None:
    agree = total = 0
    for line in shared_data("gsm8k/model_solutions.jsonl").read_text().splitlines():
        row = json.loads(line)
        gold = row["ground_truth"].rpartition("A:")[2]
        for given in row.values():
            if isinstance(given, dict) and "is_correct" in given:
                total += 1
                agree += score(numeric, prompt(gold), given["solution"]) == float(given["is_correct"])
    assert total > 1000 and agree >= 0.999 * total, (agree, total)


@pytest.mark.parametrize("name", ["VCMD.jsonl", "VCMD_seeds_200.jsonl"])
def test_golds_of_composed_problems(name: str, shared_data: Callable[[str], Path]) -> None:
    golds = set()
    for line in shared_data(f"composition/{name}").read_text().splitlines():
        row = json.loads(line)
        golds |= {str(row[key]) for key in ("Answer", "final_answer") if key in row}
    assert len(golds) > 50
    wrong = [gold for gold in golds if not equal(gold, f" {gold.replace('{', '{ ')} ")]
    assert wrong == []


def kinds() -> dict[str, list[str]]:
    """By kind, the pairs of answer_kinds.txt: ``gold <- what is right`` and ``gold </- what is wrong``."""
    blocks = (Path(__file__).parent / "answer_kinds.txt").read_text().removeprefix("# ").split("\n# ")
    return {lines[0]: lines[1:] for block in blocks if (lines := block.strip().splitlines())}


@pytest.mark.parametrize("kind", kinds())
def test_answers_of_a_kind(kind: str) -> None:
    for line in kinds()[kind]:
        gold, sign, answer = line.partition(" </- " if " </- " in line else " <- ")
        assert equal(gold, answer) == ("/" not in sign), line
        assert equal(gold, f" {gold} ") and equal(answer, f" {answer} "), line


def test_numbers_that_a_table_has_kept_in_another_width(boxed: BoxedMath) -> None:
    exact = ExactMatch(ExactMatch.Config())
    for number in (float(np.float32(0.1)), 0.1, 0.1 + 0.2 - 0.2):
        assert score(boxed, prompt(number), r"\boxed{0.1}") == 1.0
        assert score(exact, prompt(number), "0.1") == 1.0
    assert score(boxed, prompt(float(np.float32(0.1))), r"\boxed{0.2}") == 0.0
