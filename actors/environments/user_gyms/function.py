"""FunctionGym: a hidden rule over four numbers is found by trying inputs; the user checks what is answered."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from raylign.actors.environments.user_gyms.arithmetic import NoValue, evaluate
from raylign.actors.environments.user_gyms.gym import Reply, UserGym
from raylign.actors.environments.user_gyms.instances import number_of, text_of
from raylign.actors.environments.user_gyms.protocol import Act, Choice
from raylign.errors import DataError

NAMES = "abcd"
NEAR = 1e-6  # of an answer to the expected value
DIGITS = 4  # that a try shows
LARGEST = 1e16  # from which a float counts no more
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
ONE = re.compile(rf"\s*{NUMBER}\s*")
SOME = re.compile(rf"[\[(]?\s*{NUMBER}(?:[\s,;]+{NUMBER})*\s*[\])]?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A rule, the input that it is asked for, and its value there.

    Example: ``Function(rule="a * b + c", test=(1.0, 2.0, 3.0, 4.0), expected=5.0)``
    """

    rule: str
    test: tuple[float, ...]
    expected: float

    def at(self, numbers: tuple[float, ...]) -> float:
        """The value. Raises NoValue where there is none."""
        return evaluate(self.rule, dict(zip(NAMES, numbers, strict=False)))


class FunctionGym(UserGym):
    """No model takes part: everything is computed. Rows: ``rule``, ``test_case``, ``expected_result``."""

    domain = "function"
    rules = (
        "A rule maps four numbers a, b, c, d to one number by additions, subtractions, multiplications, divisions and "
        "powers. Find out what it gives for the test input. You may try any other input."
    )
    choices: ClassVar[dict[Choice, str]] = {
        Choice.action: "try an input, four numbers such as 1 2 3 4; you see what the rule gives",
        Choice.answer: "have the user check your value of the rule at the test input",
        Choice.search: "the word test shows the test input",
    }

    @staticmethod
    def read(row: Mapping[str, Any], place: str) -> Function:
        """See `UserGym.read`: the rule must give the expected value at the test input."""
        place = f"{place} ({row.get('id', 'without id')})"
        rule, expected = text_of(row, "rule", place), number_of(row, "expected_result", place)
        given = row.get("test_case")
        if not isinstance(given, list) or len(given) != len(NAMES):
            raise DataError(f"{place}: test_case = {str(given)[:40]} is no list of four numbers; fix: write one")
        test = tuple(number_of({"test_case": value}, "test_case", place) for value in given)
        function = Function(rule=rule, test=test, expected=expected)
        try:
            value = function.at(test)
        except (ValueError, NoValue) as error:
            raise DataError(f"{place}: the rule {rule!r} cannot be evaluated: {error}; fix: drop the row") from error
        if not math.isclose(value, expected, rel_tol=NEAR, abs_tol=NEAR):
            raise DataError(
                f"{place}: {rule!r} gives {value:g} at the test input, not expected_result = {expected:g}; fix: drop it"
            )
        return function

    def opening(self, row: Function) -> str:
        """All are asked alike."""
        return self.rules

    async def respond(self, row: Function, act: Act, own: dict[str, Any]) -> Reply:
        """See `UserGym.respond`."""
        if act.choice is Choice.search:
            known = "test" in act.content.lower()
            return Reply(text=f"Test input: {_shown(row.test)}" if known else "Search for test.", valid=known)
        if act.choice is Choice.answer:
            return self._checked(row, act.content)
        numbers = self.numbers(act.content)
        if numbers is None:
            return Reply(text=f"Try {len(row.test)} numbers.", valid=False)
        if numbers == row.test:
            return Reply(text="The test input itself cannot be tried.", valid=False)
        try:
            return Reply(text=written(row.at(numbers)))
        except NoValue:
            return Reply(text="The rule has no value there; try other numbers.", valid=False)

    def numbers(self, content: str) -> tuple[float, ...] | None:
        """The input that is tried; None where it is none."""
        if not SOME.fullmatch(content.strip()):
            return None
        given = tuple(float(word) for word in re.findall(NUMBER, content))
        return given if len(given) == len(NAMES) and all(map(math.isfinite, given)) else None

    def _checked(self, row: Function, content: str) -> Reply:
        if not ONE.fullmatch(content):
            return Reply(text="Answer with one number.", valid=False)
        right = abs(float(content) - row.expected) <= NEAR
        return Reply(text="Correct." if right else "Wrong.", reward=float(right), success=right)


def written(value: float) -> str:
    """A value as it is shown: to four digits after the point, whole numbers without one."""
    rounded = round(value, DIGITS)
    return str(int(rounded)) if rounded.is_integer() and abs(rounded) < LARGEST else repr(rounded)


def _shown(numbers: tuple[float, ...]) -> str:
    return " ".join(map(written, numbers))
