"""A reader that solves chains by their text alone; shares no code with the composer that it judges."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

NUMBER = re.compile(r"-?\d*(?:\d|\.\d+)(?:/\d+)?")


def solve_formula(text: str, modulus: int = 10) -> int:
    """The answer of ``X=3*4;Y=X+9;Y*5?`` by evaluating its parts from the left."""
    known: dict[str, int] = {}
    *steps, question = text.rstrip("?").split(";")
    for step in steps:
        name, right = step.split("=")
        known[name] = _arithmetic(right, known) % modulus
    return _arithmetic(question, known) % modulus


def _arithmetic(text: str, known: Mapping[str, int]) -> int:
    left, op, right = re.fullmatch(r"(\w+)([-+*])(\w+)", text).groups()  # type: ignore[union-attr]
    one, two = (known[side] if side in known else int(side) for side in (left, right))
    return {"+": one + two, "-": one - two, "*": one * two}[op]


def solve_sentence(text: str) -> Fraction:
    """The answer of a chain of sentences such as ``What is 12 + 7? Define $X$ as the answer to this problem.``"""
    known: dict[str, Fraction] = {}
    answer = Fraction(0)
    for line in text.splitlines():
        relation = re.fullmatch(r"\$(\w)\$ is \$(-? ?\d+)\$ more than \$(\w)\$\.", line)
        if relation:
            known[relation[1]] = known[relation[3]] + int(relation[2].replace(" ", ""))
            continue
        question = re.match(r"What is \$?(\w+)\$? ([-+*]) \$?(\w+)\$?\?(?: Define \$(\w)\$ as the answer)?", line)
        assert question is not None, line
        left, right = (known[side] if side in known else Fraction(side) for side in (question[1], question[3]))
        answer = {"+": left + right, "-": left - right, "*": left * right}[question[2]]
        if question[4]:
            known[question[4]] = answer
    return answer
