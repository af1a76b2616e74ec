"""Verifiers on real gold answers, on shuffled ones, and on the ways in which responses are written."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.actors.reward.boxed import BoxedMath, BoxExtraction
from raylign.actors.reward.exact import ExactMatch
from raylign.actors.reward.numeric import Extraction, NumericAnswer, extract, numbers_in
from raylign.actors.reward.procedural import AnswerExtraction, ProceduralScore
from raylign.actors.reward.python import PythonFunction
from raylign.actors.reward.response import last_boxed, trajectory_of
from raylign.actors.reward.router import Verifier
from raylign.actors.reward.validate import validate
from raylign.config.build import build
from raylign.contracts import Part, RewardFunction, Scope
from raylign.data.procedural import procedural_rows
from raylign.data.readers import load_rows
from raylign.data.rows import DataRow
from raylign.errors import ConfigError
from raylign.records import Prompt

# Different texts that are the same answer, so that a "shuffled" gold is right. All three pairs are sound.
EQUAL_GOLDS = {("5", "x=5"), ("10080", "10,\\!080"), ("120^\\circ", "120")}
# reasoning-gym scorers that cannot tell right from wrong: this one compares bool(answer), so any text is "True".
BROKEN_SCORERS = {"game_of_life_halting"}
# Tasks whose entries carry no answer text; they are graded by simulation alone.
NO_GOLD = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
NEEDS_ARGUMENTS = {"composite"}
MINE = ("hostile_rewards.",)


def prompt(answer: Any, verifier: str = "", **meta: Any) -> Prompt:
    chat = ({"role": "user", "content": "What?"},)
    ids = np.zeros(1, np.int32)
    return Prompt(id="p", messages=chat, token_ids=ids, answer=answer, meta={"verifier": verifier, **meta})


def score(function: RewardFunction, task: Prompt, response: str) -> float:
    value = function.score(task, [trajectory_of(task, response)])[0]
    assert value is not None
    return value.score


def derangement(count: int, seed: int) -> list[int]:
    """A cyclic shift of a shuffle: nobody keeps his own."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    shifted = [0] * count
    for left, right in zip(order, order[1:] + order[:1], strict=True):
        shifted[left] = right
    return shifted


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return Verifier(Verifier.Config())


@pytest.mark.parametrize("split", ["train", "test"])
def test_all_gsm8k_golds(split: str, verifier: Verifier, shared_data: Callable[[str], Path]) -> None:
    rows = list(load_rows(shared_data(f"gsm8k/{split}.jsonl"))[1])
    assert len(rows) == {"train": 3000, "test": 660}[split]
    tasks = [prompt(row.answer, row.verifier) for row in rows]
    for task, row in zip(tasks, rows, strict=True):
        assert score(verifier, task, str(row.target)) == 1.0
        assert score(verifier, task, f"Thus the answer is ${row.answer}.") == 1.0  # last number, no mark
    equal = 0
    for task, other in zip(tasks, derangement(len(rows), 0), strict=True):
        same = task.answer == rows[other].answer
        equal += same
        assert score(verifier, task, str(rows[other].target)) == float(same), (task.answer, rows[other].answer)
    assert equal < 0.03 * len(rows)


@pytest.mark.parametrize(("name", "count"), [("math/math500.json", 500), ("math/aime24.jsonl", 30)])
def test_all_boxed_golds(name: str, count: int, verifier: Verifier, shared_data: Callable[[str], Path]) -> None:
    rows = list(load_rows(shared_data(name))[1])
    assert len(rows) == count and {row.verifier for row in rows} == {"boxed_math"}
    for row in rows:
        task = prompt(row.answer, row.verifier)
        assert score(verifier, task, f"So $\\boxed{{{row.answer}}}$.") == 1.0
        # Another spelling of the same answer, which only the parsed expressions can match.
        assert score(verifier, task, f"\\boxed{{ {respelled(row.answer)} }}") == 1.0, row.answer
    for seed in range(2):
        for row, other in zip(rows, derangement(count, seed), strict=True):
            wrong = rows[other].answer
            expected = row.answer == wrong or {(row.answer, wrong), (wrong, row.answer)} & EQUAL_GOLDS
            scored = score(verifier, prompt(row.answer, row.verifier), f"\\boxed{{{wrong}}}")
            assert scored == float(bool(expected)), (row.answer, wrong)


def respelled(answer: str) -> str:
    for before, after in (("\\frac", "\\dfrac"), ("\\left", ""), ("\\right", ""), ("\\text{", "\\mathrm{")):
        answer = answer.replace(before, after)
    return answer.replace("\\ddfrac", "\\dfrac")


def test_all_procedural_tasks_grade_their_own_answers() -> None:
    from reasoning_gym.factory import DATASETS

    function = ProceduralScore(ProceduralScore.Config())
    without_gold = set()
    for name in sorted(set(DATASETS) - NEEDS_ARGUMENTS):
        for row in procedural_rows(name, {}, 2, 1):
            task = procedural_prompt(row)
            gold, wrong = function.gold(task), function.wrong(task)
            if gold is None:
                without_gold.add(name)
            else:
                assert score(function, task, f"Hm. <answer> {gold} </answer>") == 1.0, name
            assert wrong is not None
            assert (score(function, task, wrong) == 1.0) == (name in BROKEN_SCORERS), name
    assert without_gold == NO_GOLD


def procedural_prompt(row: DataRow) -> Prompt:
    return prompt(row.answer, row.verifier, **row.meta)


def test_validation_refuses_a_broken_scorer(verifier: Verifier) -> None:
    broken = [procedural_prompt(row) for row in procedural_rows("game_of_life_halting", {}, 2, 1)]
    assert any("a wrong response 'no answer' scores 1" in problem for problem in validate(verifier, broken))
    sound = [procedural_prompt(row) for row in procedural_rows("chain_sum", {}, 20, 1)]
    assert validate(verifier, sound) == []


def test_partial_credit_is_a_named_choice() -> None:
    arguments = {"min_terms": 2, "max_terms": 2, "allow_parentheses": False, "operators": ["+"]}
    row = next(iter(procedural_rows("basic_arithmetic", arguments, 1, 1)))
    task = procedural_prompt(row)
    stuffed = f"{row.answer}00"
    assert score(ProceduralScore(ProceduralScore.Config()), task, stuffed) == 0.0
    partial = ProceduralScore(ProceduralScore.Config(partial_credit=True))
    assert score(partial, task, stuffed) == pytest.approx(len(row.answer) / len(stuffed))


@pytest.mark.parametrize(
    ("extraction", "response", "right"),
    [
        ("tag", "<answer>no</answer> then <answer>\n{}\n</answer>", True),
        ("tag", "{}", False),
        ("tag_or_whole", " {}\n", True),
        ("tag_or_whole", "it is {}", False),
        ("boxed", "it is \\boxed{{{}}}", True),
        ("boxed", "{}", False),
        ("last_line", "thinking 1 2 3\n\n{} \n", True),
        ("whole", "<answer>{}</answer>", False),
        ("whole", "{}", True),
    ],
)
def test_procedural_extractions(extraction: str, response: str, right: bool) -> None:
    function = ProceduralScore(ProceduralScore.Config(extraction=AnswerExtraction[extraction]))
    for row in procedural_rows("letter_counting", {}, 2, 1):
        assert score(function, procedural_prompt(row), response.format(row.answer)) == float(right)
        assert score(function, procedural_prompt(row), function.gold(procedural_prompt(row)) or "") == 1.0


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("-5", "-5"),
        ("x = - 5", "-5"),
        ("it is -5", "-5"),
        ("10-5 = 5", "10 5 5"),
        ("10 - 5", "10 5"),
        ("5 - -3", "5 -3"),
        ("(3)-2", "3 2"),
        ("- 5 apples", "5"),
        ("2020-2021", "2020 2021"),
        ("\u22127", "-7"),
        ("-$5 and $-6", "-5 -6"),
        ("$1,800.50", "3601/2"),
        ("10{,}000 or 10,\\!000", "10000 10000"),
        ("1,2,3", "1 2 3"),
        ("12,0000", "12 0"),
        ("3/4 of \\frac{1}{2}", "3/4 1/2"),
        ("1/0", ""),
        ("20% or 20\\%", "20 20"),
        (".5 and 18.", "1/2 18"),
        ("no number", ""),
        ("\\text{about 3} 4", "4"),
    ],
)
def test_numbers_in_texts(text: str, numbers: str) -> None:
    assert numbers_in(text) == [Fraction(number) for number in numbers.split()]


def test_numeric_extraction_choices() -> None:
    text = "#### 5 apples, not 6\nor 7"
    assert [extract(text, choice) for choice in (Extraction.mark, Extraction.last, Extraction.mark_or_last)] == [
        5,
        7,
        5,
    ]
    assert extract("it is 7", Extraction.mark) is None
    assert extract("it is 7", Extraction.mark_or_last) == 7
    assert extract("#### none\n7", Extraction.mark_or_last) is None  # the mark says where the answer is
    assert numbers_in("9" * 5000)[0] > 10**900  # Python itself refuses integers of this length
    near = NumericAnswer(NumericAnswer.Config(tolerance=0.01))
    assert score(near, prompt("0.333"), "1/3") == 1.0 and score(near, prompt("0.3"), "1/3") == 0.0
    assert validate(near, [prompt("0.333"), prompt("1,080")]) == []
    with pytest.raises(ValueError, match="holds no number"):
        score(near, prompt("many"), "1")


def test_boxed_choices_and_errors() -> None:
    strict = BoxedMath(BoxedMath.Config(extraction=BoxExtraction.boxed))
    loose = BoxedMath(BoxedMath.Config(extraction=BoxExtraction.boxed_or_anywhere))
    half = prompt("\\frac{1}{2}")
    for response in ("\\boxed{0.5}", "\\boxed{3} no, \\boxed{\\dfrac12}", "\\boxed {1/2}", "\\boxed{2/4} \\boxed{"):
        assert score(strict, half, response) == score(loose, half, response) == 1.0, response
    assert score(strict, half, "It is $1/2$.") == 0.0 and score(loose, half, "It is $1/2$.") == 1.0
    for response in ("", "\\boxed{}", "\\boxed{\\frac{", "\\boxed{" + "x" * 5000 + "}", "\\boxed{50}", "\\boxed{{}"):
        assert score(strict, half, response) == 0.0, response[:20]
    assert score(strict, prompt("$\\boxed{7}$"), "\\boxed{7.0}") == 1.0
    for missing in (None, " "):
        with pytest.raises(ValueError, match="no gold answer"):
            score(strict, prompt(missing), "\\boxed{1}")
    assert validate(strict, [half, prompt("(3,4]"), prompt("\\text{Evelyn}")]) == []


def test_last_boxed() -> None:
    assert last_boxed("\\boxed{a} \\boxed{b{c}\\}d} \\boxed{e") == "b{c}\\}d"
    assert last_boxed("\\boxed 3") is None and last_boxed("") is None


def test_exact() -> None:
    assert score(ExactMatch(ExactMatch.Config()), prompt("Yes"), " Yes\n") == 1.0
    assert score(ExactMatch(ExactMatch.Config()), prompt("Yes"), "yes") == 0.0
    boxed = ExactMatch(ExactMatch.Config())
    assert score(boxed, prompt("Paris"), r"So it is \boxed{Paris}.") == 1.0, "a right box is never 0"
    assert score(boxed, prompt("Paris"), r"\boxed{Paris} or \boxed{Rome}") == 0.0
    free = ExactMatch(ExactMatch.Config(ignore_case=True, collapse_spaces=True))
    assert score(free, prompt("a  b"), "A\nb") == 1.0 and validate(free, [prompt("a"), prompt(3)]) == []
    with pytest.raises(ValueError, match="no gold answer"):
        score(free, prompt(None), "a")


def test_python_reward_by_import_path() -> None:
    node = {"_target_": "raylign.actors.reward.python.PythonFunction", "path": "hostile_rewards.named"}
    function = build(Part, {**node, "kwargs": {"bonus": 0.5}, "isolated": True}, "rewards.x.fn")
    assert function.isolated and function.scope is Scope.TRAJECTORY
    assert score(function, prompt(3, unit="km", other="ignored"), "3 km") == 1.5
    assert score(function, prompt(3), "3 km") == 0.5
    group = build(Part, {**node, "path": "hostile_rewards.rank", "scope": "GROUP"}, "rewards.x.fn")
    task = prompt(None)
    values = group.score(task, [trajectory_of(task, text) for text in ("a", "bb")])
    assert group.scope is Scope.GROUP and [value.score for value in values] == [0.0, 0.5]
    with pytest.raises(ConfigError, match=r"must be package\.module\.function"):
        build(Part, {**node, "path": "named"}, "rewards.x.fn")
    with pytest.raises(ImportError, match="has no nothing"):
        build(Part, {**node, "path": "hostile_rewards.nothing"}, "rewards.x.fn")
    with pytest.raises(TypeError, match="not a function"):
        build(Part, {**node, "path": "hostile_rewards.os"}, "rewards.x.fn")
    assert isinstance(function, PythonFunction)


def test_router_names_an_unknown_verifier(verifier: Verifier) -> None:
    with pytest.raises(ValueError, match=r"the prompt's verifier is 'gsm8'; set data\.verifier to one of gsm8k"):
        score(verifier, prompt("1", "gsm8"), "1")
    problems = validate(verifier, [prompt("1", "gsm8k"), prompt("1", "")])
    assert len(problems) == 1 and "verifier is ''" in problems[0]
