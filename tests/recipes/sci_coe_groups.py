"""Groups of solutions and strategies of Sci-CoE's toy, and its rewards with a judge that is a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raylign.recipes.sci_coe import Anchored, Geometric
from raylign.recipes.sci_coe.toy import accepts, worked
from raylign.records import Prompt, Trajectory, Value
from raylign.testing import records

TOY = "raylign.recipes.sci_coe.toy"
QUESTION = "3+4+1mk"  # 2;3mk
RIGHT, ODD, BELOW, OTHER = "2;3mk", "2;4mk", "2;1mk", "2;3ms"  # right; wrong digit; wrong digit, even; wrong unit
SOLUTIONS = [RIGHT, RIGHT, ODD, BELOW, OTHER]
STRATEGIES = ["r9", "p2", "b2", "u1"]
ANSWERS = {"_target_": f"{TOY}.TwoStepAnswer"}


def asked(question: str = QUESTION, **fields: Any) -> Prompt:
    return records.prompt(text=question, **{"answer": worked(question)[1], **fields})


def said(solutions: Sequence[str], strategies: Sequence[str]) -> list[Trajectory]:
    roles = [*(("solver", text) for text in solutions), *(("verifier", text) for text in strategies)]
    return [
        records.trajectory(records.call(text, role=role), sample_index=number)
        for number, (role, text) in enumerate(roles)
    ]


def judge(**settings: Any) -> dict[str, Any]:
    model = {"_target_": "raylign.actors.judge.scripted.Scripted", "function": f"{TOY}.judge", "settings": settings}
    return {"model": model}


def geometric(mine: dict[str, Any] | None = None, **settings: Any) -> Geometric:
    return Geometric(Geometric.Config(judge=mine or judge(), **settings))


def anchored(mine: dict[str, Any] | None = None, **settings: Any) -> Anchored:
    return Anchored(Anchored.Config(judge=mine or judge(), answers=ANSWERS, **settings))


def table(solutions: Sequence[str], strategies: Sequence[str]) -> np.ndarray:
    return np.array([[accepts(QUESTION, s, v, False) for v in strategies] for s in solutions], np.float64)


def scores(values: Sequence[Value | None]) -> list[float | None]:
    return [None if value is None else value.score for value in values]
