"""Problems with solutions: the answers that they state, the prompts that ask to rewrite them, and what is forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rewriter_cases import SOLUTION, problem, rewriting

from raylign.actors.reward.boxed import BoxedMath
from raylign.chat.template import ChatTemplate
from raylign.config.compose import compose, compose_with_problems
from raylign.config.schema import DataConfig
from raylign.contracts import View
from raylign.data.prompts import load_prompts
from raylign.errors import DataError
from raylign.models.tokenizer import load_tokenizer
from raylign.recipes.checks import check
from raylign.recipes.rewriter import Forgetting, Solutions, Tasks
from raylign.recipes.rewriter.bare import BARE, EXPERT, bare_of, expert_ids
from raylign.recipes.rewriter.stated import Stated, stated_answer
from raylign.recipes.rewriter.toy import (
    FORMATS,
    GENERAL,
    General,
    MixedRewrites,
    Pretraining,
    Products,
    RightSteps,
    format_of,
    worked,
)
from raylign.records import Group, Prompt
from raylign.testing import records, trajectory

REAL = "composition/VCMD_seeds_200.jsonl"
COLUMNS = {"format": "columns", "prompt_key": "problem", "answer_key": "solution", "verifier": "boxed_math"}


@pytest.fixture(scope="module")
def template(tiny_model: Path) -> ChatTemplate:
    return ChatTemplate(load_tokenizer(str(tiny_model), False))


def solutions(template: ChatTemplate) -> Solutions:
    return Solutions(Solutions.Config(), tokenizer=template, seed=0)


# ---------------------------------------------------------------------------------------------------------- the answer


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"so \boxed{4}", "4"),
        (r"\boxed{3} and then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),  # the last, its braces matched
        (r"\boxed{7} or \fbox{8}", "8"),
        (r"\boxed{4 breaks off, and 5 stands here: \boxed{6}", "6"),
        ("there are 12 and then 1,300 of them", "1,300"),
        ("minus: -3.5", "-3.5"),
        ("no answer at all", None),
        ("", None),
    ],
)
def test_the_answer_that_a_solution_states(solution: str, answer: str | None) -> None:
    stated = stated_answer(solution)
    assert (stated and stated.answer) == answer


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("The answer is 5 (see step 2).", "5"),
        ("The answer is 5. We used step 2.", "5"),
        ("The answer is 5, since 2+3=5.", "5"),
        ("The answer is 5 apples.", "5"),
        ("The answer is $5.00 in total", "5.00"),
        ("The answer is 10:30.", "10:30"),
        ("The answer is B. (as in Fig. 3)", "B"),
        ("B. (as in Fig. 3)", "B"),
        ("Answer: (C) 12 m", "C"),
        (r"The final answer is $\frac{3}{4}$.", r"\frac{3}{4}"),
        (r"so x = \frac{3}{4}.", r"\frac{3}{4}"),
        (r"so the area = 2\sqrt{3}", r"2\sqrt{3}"),
        ("Answer: 3x + 2", "3x + 2"),
        ("The answer is (2, 3).", "(2, 3)"),
        ("The answer is 5 or 6.", "5 or 6"),
        ("the answer is 0.75 = 3/4", "3/4"),
        ("the answer is yes, as in step 3", "yes"),
        ("the result is 5 760 apples", "5 760"),
        ("so it is\n#### 18", "18"),
        ("<answer>7</answer>, as in step 2", "7"),
        ("\u7b54\u6848\u662f\uff17\uff15\u3002", "75"),
    ],
)
def test_a_stated_answer_is_read_and_what_stands_beside_it_is_not(solution: str, answer: str) -> None:
    assert stated_answer(solution) == Stated(answer)


@pytest.mark.parametrize(
    ("solution", "number"),
    [
        ("5 (see step 2).", "5"),
        (r"\frac{3}{4}", r"\frac{3}{4}"),
        (r"we get -\frac{3}{4} of it", r"-\frac{3}{4}"),
        ("3/4 of them", "3/4"),
        ("5 760", "5 760"),
        ("in all 5,760 apples", "5,760"),
        ("10:30", "10:30"),
        ("x equals 2^10", "2^10"),
        ("about 1.5e3 units", "1.5e3"),
        ("between 2-5", "5"),
        ("it is -3", "-3"),
        ("The result is 12. Less 5 that makes 7.", "7"),
        ("The answer is clear. Thus there are 5.", "5"),
    ],
)
def test_a_last_number_is_whole_and_said_to_be_one(solution: str, number: str) -> None:
    assert stated_answer(solution) == Stated(number, only_number=True)


def test_golds_that_are_but_a_last_number_are_counted(template: ChatTemplate) -> None:
    rows = [problem(number=n, answer=None, meta={"target": f"there are {n}"}, place=f"a.jsonl:{n}") for n in (1, 2)]
    for view in (solutions(template), rewriting(template)):
        assert [prompt.answer for prompt in view.prompts([problem(), *rows])] == ["4", "1", "2"]
        assert view.left_out() == (
            "2 rows kept whose gold is but the last number of the solution, which calls none the answer "
            "(the first: a.jsonl:1: 1)"
        )


def test_an_answer_of_its_own_goes_before_the_solutions(template: ChatTemplate) -> None:
    (own,) = solutions(template).prompts([problem(answer="9")])
    (stated,) = solutions(template).prompts([problem(answer=SOLUTION)])
    (absent,) = solutions(template).prompts([problem(answer=None)])
    assert (own.answer, stated.answer, absent.answer) == ("9", "4", "4")


def test_rows_that_state_no_answer_are_left_out_and_counted(template: ChatTemplate) -> None:
    silent = problem(number=1, answer=None, meta={"target": "it is so"}, place="a.jsonl:2")
    for view in (solutions(template), rewriting(template)):
        assert [prompt.id for prompt in view.prompts([problem(), silent])] == ["p0"]
        assert view.left_out() == "1 rows left out that state no answer, in a box or as a number: a.jsonl:2"
        assert view.prompts([problem()]) and "1 rows" in view.left_out()
    with pytest.raises(DataError, match=r"none of 1 rows states an answer.*a.jsonl:2"):
        solutions(template).prompts([silent])
    assert solutions(template).prompts([]) == [] and solutions(template).left_out() == ""
    plain = Solutions(Solutions.Config(plain=True), tokenizer=template, seed=0)
    assert [one.answer for one in plain.prompts([problem(), silent])] == ["4", "it is so"]


def test_the_expert_of_a_problem_with_several_boxes_passes_its_own_check(template: ChatTemplate) -> None:
    solution = r"(a) \boxed{3} (b) \boxed{5}"
    (asks,) = solutions(template).prompts([problem(answer=None, meta={"target": solution})])
    (value,) = BoxedMath(BoxedMath.Config()).score(asks, [trajectory(solution)])
    assert asks.answer == "5" and value.score == 1


def test_general_tasks_are_read_as_the_new_one_and_keep_answers_in_words() -> None:
    for scale in ("gpu", "tiny"):
        view = compose_with_problems(["recipe=rewriter", f"scale={scale}"])[0].parts["stages.general_before.view"]
        assert view.config.plain is True if scale == "gpu" else view.cls is General


# ----------------------------------------------------------------------------------------------------------- rewriting


def test_what_is_left_out_is_told_before_work(tmp_path: Path) -> None:
    rows = [{"problem": f"{n}*4+8?", "solution": "it is so" if n == 7 else f"it is {n}"} for n in range(10)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = [f"data.{name}={value}" for name, value in COLUMNS.items()]
    tiny = ["recipe=rewriter", "scale=tiny", f"data.path={path}", *columns, "data.holdout=2"]
    told = "\n".join(check(compose(tiny)).reports)
    for stage in ("rewrite", "build"):
        assert f"stages.{stage}.view: 1 rows left out that state no answer" in told and f"{path}:8" in told


def test_a_rewriting_prompt_shows_both_and_carries_the_bare_question(template: ChatTemplate) -> None:
    bare = problem(meta={"target": SOLUTION, "verifier": "boxed_math"}, domain="algebra")
    (asked,) = rewriting(template).prompts([bare])
    text = asked.messages[-1]["content"]
    assert "2+2?" in text and SOLUTION in text and r"\boxed{}" in text
    assert asked.id == bare.id and asked.domain == "algebra" and asked.meta["question"] == "2+2?"
    assert asked.token_ids.tolist() == template.prompt_ids(asked.messages)
    assert bare_of(asked).messages == bare.messages and bare_of(bare) is bare
    assert template.text_of(expert_ids(asked)) == SOLUTION and expert_ids(asked)[-1] in template.ends
    assert not len(expert_ids(bare))


def test_a_solution_with_braces_is_shown_as_it_is(template: ChatTemplate) -> None:
    odd = r"{question} and \boxed{4}"
    (asked,) = rewriting(template).prompts([problem(meta={"target": odd})])
    assert odd in asked.messages[-1]["content"]


def test_prompts_that_are_too_long_are_left_out_and_counted_where_a_limit_is_set(template: ChatTemplate) -> None:
    long = problem(number=1, meta={"target": SOLUTION * 20})
    view = rewriting(template, max_tokens=600)
    assert [prompt.id for prompt in view.prompts([problem(), long])] == ["p0"]
    assert view.left_out() == "1 rows left out whose rewriting prompts exceed 600 tokens"
    assert len(rewriting(template).prompts([problem(), long])) == 2


def test_without_a_solution_there_is_nothing_to_rewrite(template: ChatTemplate) -> None:
    with pytest.raises(DataError, match=r"a.jsonl:7: no solution to rewrite.*data.answer_key"):
        rewriting(template).prompts([problem(meta={}, place="a.jsonl:7")])


def test_further_solutions_of_a_question_are_counted(template: ChatTemplate) -> None:
    view = rewriting(template)
    view.prompts([problem(meta={"target": SOLUTION, "targets": (SOLUTION, "or 4")})])
    assert view.left_out() == "1 further solutions of the same questions are not rewritten"


def test_real_problems_and_their_solutions(shared_data: Callable[[str], Path], template: ChatTemplate) -> None:
    path = shared_data(REAL)
    raw = {json.loads(line)["problem"]: json.loads(line) for line in path.read_text().splitlines()}
    data = DataConfig(path=str(path), holdout=0, max_prompt_tokens=100_000, **COLUMNS)  # type: ignore[arg-type]
    prompts = load_prompts(data, template, 0).train
    view = rewriting(template)
    asked = view.prompts(prompts)
    assert len(asked) == len(prompts) == len(raw) == 200 and view.left_out() == ""
    assert [prompt.id for prompt in asked] == [prompt.id for prompt in prompts]
    verifier = BoxedMath(BoxedMath.Config())
    for prompt in asked:
        row = raw[prompt.meta["question"]]
        assert row["solution"] in prompt.messages[-1]["content"]
        assert verifier.judge(bare_of(prompt), row["solution"]).score == 1.0, row
        assert verifier.judge(replace(bare_of(prompt), answer=row["final_answer"]), f"\\boxed{{{prompt.answer}}}").score


# ---------------------------------------------------------------------------------------------------------- forgetting


def evaluated(**scores: list[float | None]) -> list[Group]:
    return [
        records.group(scores=[score], prompt=records.prompt(number, domain=task))
        for task, values in scores.items()
        for number, score in enumerate(values)
    ]


def test_what_is_forgotten_of_each_task(tmp_path: Path) -> None:
    before = Tasks(Tasks.Config())
    groups = evaluated(copy=[1.0, 1.0, 0.0, 1.0], sort=[1.0, None, 0.0])
    assert before.metrics(groups) == {"copy": 0.75, "sort": 0.5, "mean": 0.625}
    assert before.metrics([]) == {}
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in before.table(groups)))
    now = evaluated(copy=[1.0, 0.0, 0.0, 0.0], sort=[1.0, 1.0])
    forgetting = Forgetting(Forgetting.Config(before=str(path)))
    assert forgetting.metrics(now) == {"copy": 0.5, "sort": -0.5, "mean": 0.0}
    assert forgetting.table(now)[0] == {"task": "copy", "before": 0.75, "now": 0.25, "forgotten": 0.5}
    with pytest.raises(DataError, match=r"tells of copy, sort, and this evaluation of copy; fix: ask both"):
        forgetting.metrics(evaluated(copy=[1.0]))


@pytest.mark.parametrize("content", ["", "{", '{"task": "a"}', '{"task": "a", "score": null}', "[1]"])
def test_another_file_is_no_table(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(content)
    with pytest.raises(DataError):
        Forgetting(Forgetting.Config(before=str(path))).metrics(evaluated(copy=[1.0]))


# ------------------------------------------------------------------------------------------------------------- the toy


def toys(template: ChatTemplate, size: int = 40) -> list[Prompt]:
    made = []
    for number, row in enumerate(Products(Products.Config()).rows(size, 1)):
        text, meta = str(row.messages[0]["content"]), {"target": row.target}
        made.append(records.prompt(number, text=text, answer=row.answer, meta=meta, place=row.place))
    return made


def seen(view: type[View], template: ChatTemplate, **settings: Any) -> list[Prompt]:
    made: View = view(view.Config(**settings), tokenizer=template, seed=1)  # type: ignore[call-arg, attr-defined]
    return made.prompts(toys(template))


@pytest.mark.parametrize(("question", "answer"), [("3*4+8?", 0), ("9*9*9?", 9), ("0+7*7?", 9), ("2-5-9?", 8)])
def test_questions_are_worked_from_left_to_right(question: str, answer: int) -> None:
    assert worked(question).result == answer


def test_every_format_passes_the_checks_and_another_answer_does_not() -> None:
    check, asked = RightSteps(RightSteps.Config()), records.prompt(text="3*4+8?", answer="0")
    for name, form in FORMATS.items():
        text = form(worked("3*4+8?"))
        assert check.judge(asked, text).score == 1.0 and format_of(text, "3*4+8?") == name
        assert check.judge(asked, text.replace("2", "3")).score == 0.0
    for text in ("0", "3*4=2", "", "3*4=2,2+8=0 0"):
        assert check.judge(asked, text).score == 0.0


def test_the_base_model_never_sees_an_answer_of_the_new_operation_nor_a_held_out_number(template: ChatTemplate) -> None:
    made = seen(Pretraining, template)
    assert len({prompt.id for prompt in made}) == len(made) == 40 * (4 + 3 + 2)
    right = [
        prompt.meta["target"].endswith(str(worked(str(prompt.messages[0]["content"])).result))
        for prompt in made
        if prompt.domain == "worked" and "*" in str(prompt.messages[0]["content"])
    ]
    assert len(right) == 80 and np.mean(right) < 0.3
    trained = {str(prompt.messages[0]["content"]) for prompt in made}
    held = seen(General, template)
    assert len(held) == 160 and not trained & {str(prompt.messages[0]["content"]) for prompt in held}
    assert {prompt.domain for prompt in held} == set(GENERAL)
    assert all(GENERAL[p.domain](str(p.messages[0]["content"])[1:]) == p.answer for p in held)


def test_the_rewriter_starts_from_right_rewrites_in_all_formats(template: ChatTemplate) -> None:
    made = seen(MixedRewrites, template)
    forms = {format_of(prompt.meta["target"], prompt.meta["question"]) for prompt in made}
    assert forms == set(FORMATS) and {BARE, EXPERT} <= set(made[0].meta)


def test_a_plan_lays_out_only_the_first_rows_to_imitate() -> None:
    run = compose(["recipe=rewriter", "scale=tiny", "data.size=400"])
    assert {stage: len(rows) for stage, rows in check(run, 64).demonstrated.items()} == {"base": 64, "warm": 64}
