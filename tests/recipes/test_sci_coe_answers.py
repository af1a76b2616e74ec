"""Answers of science questions: tolerances, units, letters; and the real problems of SciBench, parsers and matrix."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.actors.judge.client import Judge
from raylign.actors.judge.scripted import Scripted
from raylign.actors.reward.validate import validate
from raylign.contracts import Sampling
from raylign.recipes.sci_coe import ScienceAnswer, Solved
from raylign.recipes.sci_coe.answers import UNIT
from raylign.recipes.sci_coe.matrix import MatrixJudge, Unparsable, pairs_to_ask
from raylign.recipes.sci_coe.prompts import judged_texts
from raylign.recipes.sci_coe.strategy_text import answers_of, read_strategy
from raylign.records import Message, Prompt
from raylign.testing import records

BOOKS = ("atkins", "calculus", "chemmc", "class", "fund", "thermo")


def question(answer: Any, unit: str = "", text: str = "How much?") -> Prompt:
    return records.prompt(text=text, answer=answer, meta={UNIT: unit})


def score(prompt: Prompt, response: str, tolerance: float = 0.01) -> float:
    return ScienceAnswer(ScienceAnswer.Config(tolerance=tolerance)).judge(prompt, response).score


@pytest.mark.parametrize(
    ("answer", "unit", "response", "right"),
    [
        ("50.7", "$\\mathrm{atm}$ ", "so \\boxed{50.7}", 1),
        ("50.7", "$\\mathrm{atm}$ ", "\\boxed{50.9 \\mathrm{~atm}}", 1),
        ("50.7", "$\\mathrm{atm}$ ", "\\boxed{51.3}", 0),
        ("50.7", "$\\mathrm{atm}$ ", "\\boxed{5137 \\text{ kPa}}", 1),
        ("50.7", "$\\mathrm{atm}$ ", "\\boxed{50.7 \\text{ kPa}}", 0),
        ("50.7", "$\\mathrm{atm}$ ", "\\boxed{50.7 \\text{ m}}", 0),
        ("+65.49", "$\\mathrm{kJ} \\mathrm{mol}^{-1}$", "\\boxed{65.5 \\text{ kJ/mol}}", 1),
        ("+65.49", "$\\mathrm{kJ} \\mathrm{mol}^{-1}$", "\\boxed{-65.5 \\text{ kJ/mol}}", 0),
        ("2.6", "$10^{-21} \\mathrm{~J}$ ", "\\boxed{2.6 \\times 10^{-21} \\mathrm{~J}}", 1),
        ("2.6", "$10^{-21} \\mathrm{~J}$ ", "\\boxed{2.6}", 1),
        ("2.6", "$10^{-21} \\mathrm{~J}$ ", "\\boxed{2.6 \\times 10^{-20} \\mathrm{~J}}", 0),
        ("4.1", " $\\mathrm{10^{-4}} \\mathrm{~cm}^3/\\mathrm{s}$", "\\boxed{4.1e-4}", 1),
        ("0", "", "\\boxed{0.001}", 0),
        ("0", "", "\\boxed{0}", 1),
        (" 1800\\pi", "", "\\boxed{1800 \\pi}", 1),
        ("1500", "", "E = 3 \\cdot 500, \\boxed{E = 1.5 \\times 10^3}", 1),
        ("B", "", "\\boxed{(B)}", 1),
        ("B", "", "\\boxed{B or C}", 0),
        ("B", "", "The answer is B", 1),
        ("B", "", "\\boxed{C}", 0),
        (["3", "4"], "", "\\boxed{4}", 1),
        ("50.7", "", "<think>\\boxed{50.7}</think> I do not know.", 0),
        ("50.7", "", "It is 50.7", 0),  # says it, but does not give it as the answer
    ],
)
def test_right_and_wrong_answers(answer: Any, unit: str, response: str, right: int) -> None:
    assert score(question(answer, unit), response) == right


def test_the_tolerance_is_relative_to_the_gold_number() -> None:
    assert score(question("100"), "\\boxed{101}") == 1 and score(question("100"), "\\boxed{101.1}") == 0
    assert score(question("100"), "\\boxed{105}", tolerance=0.05) == 1
    assert score(question("0.01"), "\\boxed{0.0105}") == 0
    with pytest.raises(ValueError, match="tolerance"):
        ScienceAnswer.Config(tolerance=1.0)


def test_the_form_that_the_prompt_asks_for() -> None:
    asked = question("7", text="How many? Put the answer into <answer> tags.")
    assert score(asked, "<answer>7</answer>") == 1 and validate(ScienceAnswer(ScienceAnswer.Config()), [asked]) == []


def test_a_strategy_or_a_question_without_an_answer_is_not_compared() -> None:
    solved = Solved(Solved.Config())
    both = [records.trajectory(records.call("\\boxed{7}", role=role)) for role in ("solver", "verifier")]
    first, second = solved.score(question("7"), both)
    assert first is not None and first.score == 1 and second is None
    assert solved.score(question(None), both) == [None, None]
    assert solved.isolated and validate(solved, [question("7"), question(None)]) == []


# --------------------------------------------------------------------------------------------------- real problems


def problems(shared_data: Callable[[str], Path], name: str) -> list[dict[str, str]]:
    return list(json.loads(shared_data(f"scibench/{name}.json").read_text()))


@pytest.mark.parametrize("book", BOOKS)
def test_every_gold_answer_is_right_by_itself_and_with_its_unit(shared_data: Callable[[str], Path], book: str) -> None:
    verifier = ScienceAnswer(ScienceAnswer.Config())
    for row in problems(shared_data, book):
        prompt = question(row["answer_number"], row["unit"], row["problem_text"])
        number, unit = row["answer_number"].strip(), row["unit"].strip()
        unit = unit[1:-1] if unit.startswith("$") else unit
        for response in (f"\\boxed{{{number}}}", f"\\boxed{{{number} \\; {unit}}}"):
            assert verifier.judge(prompt, response).score == 1, (row["problemid"], response)
        assert verifier.judge(prompt, verifier.wrong(prompt) or "").score == 0
        value = float(number.replace("$", "").replace("\u2212", "-"))
        near, far = (verifier.judge(prompt, f"\\boxed{{{value * factor:.8g}}}").score for factor in (1.005, 1.05))
        assert (near, far) == ((1, 0) if value else (1, 1)), row["problemid"]


def carried_out(messages: Sequence[Message], sampling: Sampling, seed: int) -> str:
    """Strategies that need no model: whether a number or a unit stands in the solution."""
    _, solution, strategy = judged_texts(str(messages[-1]["content"]))
    wanted = strategy.partition(": ")[2]
    return f"Looking for {wanted}.\n{'CORRECT' if wanted in solution else 'INCORRECT'}"


def test_the_matrix_of_worked_solutions(shared_data: Callable[[str], Path]) -> None:
    """Real solutions of a book, and the same with another number: texts full of LaTeX reach the judge as they are."""

    def asked(work: Callable[[Judge], Awaitable[Any]]) -> Any:
        judge = Judge(Judge.Config(model={"_target_": "none"}), model=Scripted.of(carried_out))
        return asyncio.run(work(judge))  # type: ignore[arg-type]

    judge, count = MatrixJudge(asked, Unparsable.leave_out), 0  # type: ignore[arg-type]
    for row in problems(shared_data, "atkins_sol"):
        number, unit = row["answer_number"].strip().lstrip("+"), row["unit"].strip()
        if number not in row["solution"] or number in row["problem_text"]:
            continue
        solutions = [row["solution"], row["solution"].replace(number, "none")]
        strategies = [f"look for the number: {number}", f"look for the unit: {unit}", "nothing: "]
        pairs = pairs_to_ask(2, 3, 0, seed=0)
        matrix = judge.ask(row["problem_text"], solutions, strategies, pairs)
        there = float(unit in row["solution"])
        np.testing.assert_array_equal(matrix.verdicts[:, [0, 2]], [[1, 1], [0, 1]])
        assert matrix.verdicts[0, 1] == there and matrix.asked == 6 and matrix.unparsable == 0
        if sum(map(str.isdigit, number)) > 2:  # a shorter one stands in any text
            stated = read_strategy(strategies[0], row["problem_text"], {number})
            assert stated.stated and number not in stated.text
        count += 1
    assert count > 5


def test_answers_that_solutions_announce(shared_data: Callable[[str], Path]) -> None:
    rows = problems(shared_data, "atkins")
    said = [f"Thus $p = nRT/V$.\n\\boxed{{{row['answer_number'].strip()}}}" for row in rows]
    assert answers_of(said) == {row["answer_number"].strip() for row in rows}
