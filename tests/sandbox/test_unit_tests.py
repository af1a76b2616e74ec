"""The unit-test reward on MBPP+: solutions pass, mutations of them fail, and a sandbox in trouble is no zero."""

from __future__ import annotations

import ast
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.actors.reward.mbpp import Comparison, calls_of
from raylign.actors.reward.response import trajectory_of
from raylign.actors.reward.unit_tests import UnitTests, code_of
from raylign.actors.reward.validate import validate
from raylign.actors.sandbox.contract import Ending, Program, Ran, Sandbox, SandboxError
from raylign.actors.sandbox.settings import Limits, SandboxConfig
from raylign.actors.sandbox.values import decode
from raylign.data.readers import Format, load_rows
from raylign.isolation import examine
from raylign.records import Prompt

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "mbpp_plus" / "MbppPlus.jsonl"
MACHINE = examine()
pytestmark = pytest.mark.skipif(
    MACHINE is None or any(map(MACHINE.lacks, ("containment", "landlock", "seccomp"))),
    reason="this machine cannot isolate (raylign doctor says what is missing)",
)
ROW: dict[str, Any] = {
    "task_id": "Mbpp/0",
    "prompt": '"""\nWrite a function that swaps a pair.\nassert swap((1, 2)) == (2, 1)\n"""\n',
    "entry_point": "swap",
    "canonical_solution": "\ndef swap(pair):\n    return (pair[1], pair[0])\n",
    "base_input": [[[1, 2]], [[0, 5]]],
    "plus_input": [[["a", "b"]], [[1.5, None]]],
    "atol": 0,
    "assertion": "\nassert swap((1, 2)) == (2, 1)\nassert swap((0, 5)) == (5, 0)\n",
}


def prompt_of(path: Path) -> Iterator[Prompt]:
    for row in load_rows(path)[1]:
        yield Prompt(
            id=row.meta["task_id"],
            messages=row.messages,
            token_ids=np.zeros(1, np.int32),
            answer=row.answer,
            domain=row.domain,
            meta={**row.meta, "verifier": row.verifier},
        )


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    return next(prompt_of(tmp_path / "rows.jsonl"))


@pytest.fixture(scope="module")
def reward() -> UnitTests:
    return UnitTests(UnitTests.Config(sandbox=SandboxConfig(limits=Limits(timeout_s=20.0))))


def score(reward: UnitTests, prompt: Prompt, code: str) -> float:
    return reward.score(prompt, [trajectory_of(prompt, f"I think:\n```python\n{code}\n```\nDone.")])[0].score


def test_rows_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    kind, rows = load_rows(tmp_path / "rows.jsonl")
    row = next(rows)
    assert kind is Format.mbpp_plus and row.verifier == "unit_tests" and row.domain == "code"
    assert row.messages[0]["content"].startswith("Write a function that swaps a pair.\nassert swap((1, 2))")
    assert row.answer == "def swap(pair):\n    return (pair[1], pair[0])"
    assert row.target == f"```python\n{row.answer}\n```" and row.meta["plus_input"] == ROW["plus_input"]


def test_types_that_json_lost_are_read_off_the_assertions() -> None:
    calls = calls_of(ROW)
    assert [decode(arguments) for arguments in calls.arguments] == [[(1, 2)], [(0, 5)], [("a", "b")], [(1.5, None)]]
    row = {
        "entry_point": "f",
        "assertion": "assert set(f({1, 2}, [(1, [2])], {'a': (1,)}, 2j)) == set((1,))",
        "base_input": [[[1, 2], [[1, [2]]], {"a": [1]}, "2j"]],
        "plus_input": [[[3], [[4, [5]], [6, [7]]], {"b": [8]}, "1+1j"]],
        "atol": 0.5,
    }
    calls = calls_of(row)
    assert decode(calls.arguments[1]) == [{3}, [(4, [5]), (6, [7])], {"b": (8,)}, 1 + 1j]
    assert calls.comparison is Comparison.unordered and calls.tolerance == 0.5
    assert len(calls_of(row, plus=False).arguments) == 1
    truth = {**ROW, "assertion": "assert not swap((1, 2))\nassert swap((3, 4))"}
    assert calls_of(truth).comparison is Comparison.truth


def test_verdicts(reward: UnitTests, prompt: Prompt) -> None:
    assert score(reward, prompt, "def swap(p):\n    a, b = p\n    return b, a") == 1.0
    assert score(reward, prompt, "def swap(p):\n    return [p[1], p[0]]") == 0.0, "a list is no tuple"
    assert score(reward, prompt, "def swap(p):\n    return p") == 0.0
    assert score(reward, prompt, "def swap(p):\n    return (p[1], p[0]) if p[0] != 'a' else p") == 0.0
    assert score(reward, prompt, "def swap(p:") == 0.0
    assert reward.score(prompt, [trajectory_of(prompt, "no code at all")])[0].score == 0.0
    assert validate(reward, [prompt]) == []


def test_the_deadline_is_the_programs_own_time(prompt: Prompt) -> None:
    """A right program that needs 0.4 s passes beside hogs whose share leaves it no such time on the wall; one that
    computes or sleeps too long is wrong.
    """
    reward = UnitTests(UnitTests.Config(sandbox=SandboxConfig(limits=Limits(timeout_s=0.8))))
    right = "import time\nwhile time.process_time() < 0.4: pass\ndef swap(p): return p[1], p[0]"
    wrong = ("while True: pass", "import time\ntime.sleep(99)", "import os\nos.nice(19)\nwhile True: pass")
    reward.reference(prompt)
    hog = [sys.executable, "-S", "-c", "while True: pass"]
    hogs = [subprocess.Popen(hog) for _ in range(3 * len(os.sched_getaffinity(0)))]
    try:
        assert score(reward, prompt, right) == 1.0
    finally:
        for process in hogs:
            process.kill()
            process.wait()
    assert [score(reward, prompt, code) for code in wrong] == [0.0] * 3


class Starved(Sandbox):
    """Every program waits for a processor until the wall limit, so often; then it is run."""

    def __init__(self, inner: Sandbox, times: int) -> None:
        self.inner, self.times = inner, times

    def run(self, program: Program) -> Ran:
        """Starved, or run."""
        self.times -= 1
        if self.times < 0:
            return self.inner.run(program)
        return Ran(stdout="", stderr="", exit=-9, reason=Ending.STARVED, seconds=0.1)

    @property
    def layers(self) -> tuple[str, ...]:
        """The inner one's."""
        return self.inner.layers

    def close(self) -> None:
        """Nothing of its own."""


def test_a_starved_program_is_run_again_then_missing(reward: UnitTests, prompt: Prompt) -> None:
    tried = UnitTests(UnitTests.Config())
    tried.reference(prompt)
    inner = tried.sandbox
    tried.sandbox = Starved(inner, 1)
    assert score(tried, prompt, "def swap(p): return p[1], p[0]") == 1.0
    tried.sandbox = Starved(inner, 2)
    with pytest.raises(SandboxError, match="waited for a processor; fix"):
        score(tried, prompt, "def swap(p): return p[1], p[0]")


def test_a_reference_that_answers_with_an_object_is_refused(reward: UnitTests, prompt: Prompt) -> None:
    broken = Prompt(
        id="object", messages=(), token_ids=np.zeros(1, np.int32), answer="def swap(p): return [object()]",
        meta=prompt.meta,
    )  # fmt: skip
    with pytest.raises(ValueError, match="returns a object, which equals no answer"):
        score(reward, broken, "def swap(p): return p")


def test_right_answers_do_not_count_when_the_program_then_fails(reward: UnitTests, prompt: Prompt) -> None:
    code = "import atexit, os\natexit.register(os.abort)\ndef swap(p): return p[1], p[0]"
    assert score(reward, prompt, code) == 0.0


def test_fraction(prompt: Prompt) -> None:
    reward = UnitTests(UnitTests.Config(fraction=True))
    assert score(reward, prompt, "def swap(p):\n    return (p[1], p[0]) if p[0] != 'a' else p") == 0.75
    assert score(reward, prompt, "import os\nos._exit(0)") == 0.0


def test_a_sandbox_in_trouble_raises(prompt: Prompt) -> None:
    reward = UnitTests(UnitTests.Config(sandbox=SandboxConfig(packages=["nothere"])))
    with pytest.raises(SandboxError, match="nothere"):
        score(reward, prompt, "def swap(p): return p[1], p[0]")


def test_an_unusable_reference_raises(reward: UnitTests, prompt: Prompt) -> None:
    for answer, says in ((None, "no reference"), ("def swap(p): return 1 / 0", "ZeroDivisionError"), ("x =", "error")):
        broken = Prompt(
            id=f"broken {says}", messages=(), token_ids=np.zeros(1, np.int32), answer=answer, meta=prompt.meta
        )
        with pytest.raises(ValueError, match=says):
            score(reward, broken, "def swap(p): return p")
    with pytest.raises(ValueError, match="no 'entry_point'"):
        score(reward, Prompt(id="bare", messages=(), token_ids=np.zeros(1, np.int32), answer="x"), "x = 1")


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("```python\ndef f(): pass\n```", "def f(): pass"),
        ("```\ndef f(): pass\n```", "def f(): pass"),
        ("```py\ndef f(): 1\n```\nor\n```python\ndef f(): 2\n```", "def f(): 2"),
        ("```python\ndef f(): 1\n```\nUse:\n```python\nprint(3)\n```", "def f(): 1"),
        ("```python\ndef f(): cut off", "def f(): cut off"),
        ("def f(): pass", ""),
    ],
)
def test_which_block_counts(response: str, code: str) -> None:
    assert code_of(response, "f") == code


def mutations(source: str, entry: str) -> Iterator[str]:
    """The function's answer wrapped into something else: one change each."""
    for wrapper in ("[{}]", "({}, 0)", "None if {} else 0", "'no'"):
        yield f"{source}\n_right = {entry}\ndef {entry}(*a): return {wrapper.format('_right(*a)')}"
    yield f"""{source}
_calls, _right = [], {entry}
def {entry}(*a):
    _calls.append(a)
    return _right(*a) if len(_calls) < 3 else None"""


@pytest.mark.skipif(not DATA.exists(), reason="../shared/data/mbpp_plus is absent")
def test_solutions_of_mbpp_plus_pass_and_mutations_fail(reward: UnitTests) -> None:
    """Every 24th row here; all 378 by ``python -m benchmarks.sandbox --solutions``."""
    for prompt in itertools.islice(prompt_of(DATA), 3, None, 24):
        assert reward.judge(prompt, str(reward.gold(prompt))).score == 1.0, prompt.id
        entry = prompt.meta["entry_point"]
        if reward.reference(prompt).calls.comparison is Comparison.truth:
            continue
        for code in mutations(str(prompt.answer), entry):
            ast.parse(code)
            assert score(reward, prompt, code) == 0.0, (prompt.id, code)
