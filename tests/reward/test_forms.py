"""Where a prompt asks for its answer, and what a response gives there."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from raylign.actors.reward.asking import asked
from raylign.actors.reward.boxed import BoxedMath, BoxExtraction
from raylign.actors.reward.exact import ExactMatch
from raylign.actors.reward.forms import Asked, Form, announced, answer_in, written
from raylign.actors.reward.numeric import Extraction, NumericAnswer
from raylign.actors.reward.response import ResponseReward, trajectory_of
from raylign.actors.reward.validate import validate
from raylign.records import Prompt

DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n{}\n\nRemember to put your answer on its "
    'own line after "Answer:".'
)


def prompt(answer: Any, text: str = "What?") -> Prompt:
    return chat(answer, ("user", text))


def score(function: ResponseReward, task: Prompt, response: str) -> float:
    return function.score(task, [trajectory_of(task, response)])[0].score


def chat(answer: Any, *messages: tuple[str, str]) -> Prompt:
    said = tuple({"role": role, "content": content} for role, content in messages)
    return Prompt(id="p", messages=said, token_ids=np.zeros(1, np.int32), answer=answer)


@pytest.fixture(scope="module")
def boxed() -> BoxedMath:
    return BoxedMath(BoxedMath.Config())


@pytest.fixture(scope="module")
def numeric() -> NumericAnswer:
    return NumericAnswer(NumericAnswer.Config())


@pytest.mark.parametrize(
    ("text", "form", "right", "wrong"),
    [
        (DAPO.format("1+1?"), Form.line, "so\nAnswer: $2$", r"\boxed{2}"),
        (DAPO.format("1+1?"), Form.line, "**Answer:** 2.", "Answer: 3\nnot 2"),
        (DAPO.format("1+1?"), Form.line, r"Answer: \boxed{2}", "Answer: "),
        ("1+1? Put it within <answer> </answer> tags.", Form.tag, "<answer> 2 </answer>", "2"),
        (r"1+1? Answer in <answer> tags, with \boxed{} around it.", Form.boxed, r"<answer>\boxed{2}</answer>", "2"),
        ("1+1? Finish with #### and the number.", Form.mark, "#### 2", "2"),
        (r"1+1? Put the answer in \boxed{}.", Form.boxed, r"\boxed{2}", "Answer: 2"),
        ("1+1?", None, r"\boxed{2}", r"\boxed{3} 2"),  # nobody was told of a box: a right answer is right without it
        ("1+1?", None, "2", "3"),
        ("1+1?", None, "1 + 1 is 2", r"1 + 1 is \boxed{2"),
        ("Question: 1+1?\nAnswer:", None, "The answer is 2.", "It is not 2 but 3"),
    ],
)
def test_the_answer_stands_where_the_prompt_asks(
    text: str, form: Form | None, right: str, wrong: str, boxed: BoxedMath
) -> None:
    task = prompt("2", text)
    assert asked(task) == (form and Asked(form, "answer" if form in (Form.tag, Form.line) else ""))
    assert (score(boxed, task, right), score(boxed, task, wrong)) == (1.0, 0.0)
    assert validate(boxed, [task]) == []


def test_a_verifier_that_cannot_read_the_asked_form_is_refused() -> None:
    marked = NumericAnswer(NumericAnswer.Config(extraction=Extraction.mark))
    assert validate(marked, [prompt("2")]) == []
    (problem,) = validate(marked, [prompt("2", r"1+1? Put the answer in \boxed{}.")])
    assert r"the gold response '\\boxed{2}' scores 0" in problem
    exact = ExactMatch(ExactMatch.Config())
    task = prompt("Paris", "Capital of France? Use <answer></answer>.")
    assert validate(exact, [task]) == [] and score(exact, task, "Hm. <answer>Paris</answer>") == 1.0


def test_a_number_goes_where_the_prompt_asks_for_it(numeric: NumericAnswer) -> None:
    boxes = prompt("18", r"Put the answer in \boxed{}.")
    assert score(numeric, boxes, r"So \boxed{18} for 3 people.") == 1.0
    assert score(numeric, boxes, r"So \boxed{3} for 18 people: 18") == 0.0
    assert score(numeric, boxes, "It is 18.") == 1.0
    assert score(numeric, prompt("18", "Answer in <answer> tags."), "<answer>18</answer> of 20") == 1.0
    assert score(numeric, prompt("18"), "18 of 20") == 0.0


def test_an_answer_in_words_counts_where_it_is_asked_for(boxed: BoxedMath) -> None:
    task = prompt("4", 'Conclude with "The answer is X".')
    assert asked(task) == Asked(Form.said)
    assert boxed.gold(task) == "The answer is 4"
    assert score(boxed, task, "So 5. The answer is 4.") == 1.0
    assert score(boxed, task, "The final answer is: $5$") == 0.0
    assert asked(prompt("4", "Say what the answer is.")) is None


def test_only_who_asks_says_the_form() -> None:
    task = chat("4", ("user", "In <answer> tags: 1+1?"), ("assistant", r"\boxed{2}"), ("user", "2+2?"))
    assert asked(task) == Asked(Form.tag, "answer")


UNREAD = ["in square brackets", "inside a code block", "as YAML", "between backticks", "in JSON"]
ASKED = {
    "Put it in <ans>...</ans>.": ("tag", "ans", "<ans>4</ans>", "4"),
    "Reason in <think></think>, the final result in <final>...</final>": ("tag", "final", "<final>4</final>", "4"),
    'Return JSON: {"answer": <number>}': ("json", "answer", '{"answer": 4, "sure": 9}', '{"answer": 5, "sure": 4}'),
    "Give the answer as JSON with the key `result`.": ("json", "result", '{"result": "4"}', '{"answer": 4}'),
    "Write the result as [[4]].": ("brackets", "", "So [[4]].", "[[5]]"),
    r"Put it in \fbox{}.": ("boxed", "", r"\fbox{4}", r"\fbox{5}"),
    "End with 'The answer is: X'": ("said", "", "The answer is: 4", "4"),
    "End with 'Final answer: X'": ("line", "answer", "**Final answer:** 4", "4"),
    "End with: Answer: <answer>": ("line", "answer", "Answer: 4", "<answer>4</answer>"),
    "Finish with #### N": ("mark", "", "#### 4", "#### 5"),
    "Give the final answer in bold.": ("bold", "", "So it is\n**4**", "4"),
    r"Do not write <answer> tags. Use \boxed{}.": ("boxed", "", r"\boxed{4}", "<answer>4</answer>"),
    r"Use \boxed{}; never write <answer> tags.": ("boxed", "", r"\boxed{4}", "<answer>4</answer>"),
    r"Use <answer></answer> instead of \boxed{}.": ("tag", "answer", "<answer>4</answer>", r"\boxed{4}"),
    r"\boxed{} must not be used. Answer in <answer></answer>.": ("tag", "answer", "<answer>4</answer>", r"\boxed{4}"),
    r"Do not forget to put the answer in \boxed{}.": ("boxed", "", r"\boxed{4}", "4"),
    r"Do not explain and put the answer in \boxed{}.": ("boxed", "", r"\boxed{4}", "4"),
    "Write nothing outside <answer></answer>": ("tag", "answer", "<answer>4</answer>", "4"),
}


@pytest.mark.parametrize("text", ASKED)
def test_the_forms_that_a_prompt_asks_for(text: str, boxed: BoxedMath, numeric: NumericAnswer) -> None:
    form, name, right, wrong = ASKED[text]
    task = prompt("4", text)
    assert asked(task) == Asked(Form[form], name)
    assert (score(boxed, task, right), score(boxed, task, wrong)) == (1.0, 0.0)
    assert score(numeric, task, right) == 1.0
    for function in (boxed, numeric, ExactMatch(ExactMatch.Config())):
        assert validate(function, [task]) == []


@pytest.mark.parametrize("where", UNREAD)
def test_a_form_that_no_verifier_reads_is_refused_before_work(where: str, boxed: BoxedMath) -> None:
    (problem,) = validate(boxed, [replace(prompt("4", f"1+3? Give the answer {where}."), place="a.jsonl:3")])
    assert f"a.jsonl:3: the prompt asks for its answer '{where}', which no verifier reads" in problem
    assert validate(boxed, [prompt("4", f"Do not give the answer {where}.")]) == []


def test_a_form_that_is_forbidden_is_not_the_usual_one(boxed: BoxedMath, numeric: NumericAnswer) -> None:
    task = prompt("4", r"Don't use \boxed{}.")
    assert "forbids" in validate(boxed, [task])[0] and validate(numeric, [task]) == []


def test_json_keeps_latex_with_single_and_double_backslashes(boxed: BoxedMath) -> None:
    task = prompt(r"\frac{1}{2}", 'Reply as {"answer": "..."}')
    assert [score(boxed, task, text) for text in (r'{"answer": "\frac{1}{2}"}', r'{"answer": "\\frac{1}{2}"}')] == [
        1,
        1,
    ]


def test_any_announcement_counts_where_the_settings_look_anywhere() -> None:
    loose = BoxedMath(BoxedMath.Config(extraction=BoxExtraction.boxed_or_anywhere))
    for text in (
        "<ans>4</ans> of 5",
        '{"answer": 4, "of": 5}',
        "5\n[[4]]",
        r"\fbox{4} 5",
        "5\n**4**",
        "Final answer: 4",
    ):
        assert score(loose, prompt("4"), text) == 1.0, text
        assert score(loose, prompt("5"), text) == 0.0, text


@pytest.mark.parametrize("form", list(Form))
def test_the_last_place_of_a_form_is_the_answer(form: Form) -> None:
    first, last = (written(answer, Asked(form)) for answer in ("3", "4"))
    assert answer_in(f"{first}\nNo.\n{last}", Asked(form)) == "4"


@pytest.mark.parametrize("form", [form for form in Form if form is not Form.boxed])
def test_a_form_that_holds_a_box_gives_what_is_in_the_box(form: Form) -> None:
    assert answer_in(written(r"\boxed{4}", Asked(form)), Asked(form)) == "4"


@pytest.mark.parametrize("form", [form for form in Form if form is not Form.boxed])
def test_a_form_that_holds_nothing_gives_no_answer(form: Form) -> None:
    assert answer_in(written(" ", Asked(form)), Asked(form)) is None
    assert answer_in("It is 4, I think", Asked(form)) is None


@pytest.mark.parametrize(
    "text",
    [
        "The final answer is **4**.",
        "The answer is: **4** apples.",
        "**The answer is 4**.",
        "The answer is **4**!",
        "Answer: __4__",
        "The answer is `4`.",
        "**Answer**: ***4***",
        "5\n**4**.",
    ],
)
def test_emphasis_is_no_part_of_an_answer(text: str) -> None:
    loose = BoxedMath(BoxedMath.Config(extraction=BoxExtraction.boxed_or_anywhere))
    assert (score(loose, prompt("4"), text), score(loose, prompt("5"), text)) == (1.0, 0.0)


def test_escapes_of_json_are_read_and_rows_of_a_matrix_stay_apart(boxed: BoxedMath) -> None:
    for gold in ("12 \u00c5", r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}"):
        task = prompt(gold, 'Reply as {"answer": "..."}')
        assert score(boxed, task, json.dumps({"answer": gold})) == 1.0
        assert score(boxed, task, f'{{"answer": "{gold}"}}') == 1.0


def test_a_gold_that_ends_in_a_dollar_sign_is_whole(boxed: BoxedMath) -> None:
    assert score(boxed, prompt(r"$7166.67 $\$$"), boxed.gold(prompt(r"$7166.67 $\$$")) or "") == 1.0


SHARED_LINES = {  # announcements that share a line, or stand in one another
    "[[3]] [[4]]": "4",
    "[[3]][[4]]": "4",
    "[[3]], [[4]].": "4",
    "3\n [[4]] ": "4",
    "[[[4]]]": "[4]",
    "[[x]]; [[y]]": "y",
    "[[1,2],[3,4]]": "[[1,2],[3,4]]",
    "[[1, 2] [3, 4]]": "[[1, 2] [3, 4]]",
    "[[[1,2],[3,4]]]": "[1,2],[3,4]",
    "[[[[1,2],[3,4]]]]": "[[1,2],[3,4]]",
    "[[1]] [[1,2],[3,4]]": "[[1,2],[3,4]]",
    "[[[0,1)]]": "[0,1)",
    "[[(0,1]]]": "(0,1]",
    "[[(0,1],[2,3)]]": "(0,1],[2,3)",
    "[[]0,1[]]": "]0,1[",
    "[[(1,2)]] [[(3,4)]]": "(3,4)",
    "**3** **4**": "4",
    "**3**, **4**.": "4",
    "**2*3**": "2*3",
    "***4***": "4",
    "**[[4]]**": "4",
    "[[**4**]]": "4",
    r"\boxed{3} \boxed{4}": "4",
    r"\boxed{\boxed{4}}": "4",
    r"\boxed{3}, \fbox{\boxed{4}}.": "4",
    r"[[\boxed{3}]] [[\boxed{4}]]": "4",
    "<answer>3</answer> <answer>4</answer>": "4",
    "<answer><answer>4</answer></answer>": "4",
    "<answer>4</answer></answer>": "4",
    "#### 3 #### 4": "4",
    "#### 4 ####": "4",
    "#### 3 #### 4 ####  ": "4",
    "Answer: 3 Answer: 4": "4",
    "Answer: 3; **Answer:** 4": "4",
    "The answer is 3. The answer is 4": "4",
    '{"answer": 3} {"answer": 4}': "4",
    "so [[3]]": None,
    "[[3]] or more": None,
    "[[]]": None,
    "** **": None,
    "####": None,
}


@pytest.mark.parametrize("line", SHARED_LINES)
def test_of_announcements_that_share_a_line_the_last_and_innermost_counts(line: str) -> None:
    assert announced(line) == announced(f"Hm. 7\n\n{line}\n") == SHARED_LINES[line]


def test_the_last_of_two_forms_of_a_line_is_scored() -> None:
    loose = BoxedMath(BoxedMath.Config(extraction=BoxExtraction.boxed_or_anywhere))
    for line in ("[[3]] [[4]]", "**3** **4**", "#### 3 #### 4", r"\boxed{3} \boxed{4}"):
        assert (score(loose, prompt("4"), line), score(loose, prompt("3"), line)) == (1.0, 0.0), line
    matrix = r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"
    for wrong in ("[[3]] [[4]]", "[[1,2],[4,3]]"):
        assert score(loose, prompt(matrix), wrong) == 0.0, wrong


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize(
    "answer", ["[0,1)", "(0,1]", "[0,1]", "(0,1],[2,3)", "2*3", "[1,2],[3,4]", "[[1,2],[3,4]]", "x"]
)
def test_what_is_written_in_a_form_is_read_from_it(form: Form, answer: str) -> None:
    assert answer_in(f"So {written(answer, Asked(form))}", Asked(form)) == answer
