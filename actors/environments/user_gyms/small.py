"""FunctionGym for models of a few hundred thousand weights: p a + q b modulo 5, one letter a number.

asked  34            what is the rule at 3, 4?
says   ?10           try 1, 0            a thought may stand before the mark
hears  2
says   !1            have the user check 1
hears  x             wrong
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, ClassVar

from raylign.actors.environments.user_gyms.arithmetic import evaluate
from raylign.actors.environments.user_gyms.function import Function, FunctionGym
from raylign.actors.environments.user_gyms.gym import Reply
from raylign.actors.environments.user_gyms.protocol import Act, Choice, Form

MODULUS = 5
FACTORS = range(1, MODULUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallFunction(Function):
    """A rule modulo 5. Example: ``SmallFunction(rule="2 * a + 3 * b", test=(3.0, 4.0), expected=3.0)``"""

    def at(self, numbers: tuple[float, ...]) -> float:
        """The value."""
        return evaluate(self.rule, dict(zip("ab", numbers, strict=True))) % MODULUS


class SmallFunctions(FunctionGym):
    """16 rules at 16 test inputs each, 256 instances; there is no file, and nothing to search for."""

    domain = "function"
    choices: ClassVar[dict[Choice, str]] = {
        choice: FunctionGym.choices[choice] for choice in (Choice.action, Choice.answer)
    }

    @dataclass
    class Config(FunctionGym.Config):
        """The compact form, and no reward in words."""

        show_reward: bool = False
        form: Form = Form.marks

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.path or self.form is not Form.marks:
                raise ValueError("small functions are made, not read, in the form marks: set path= form=marks")

    def rows(self) -> tuple[SmallFunction, ...]:
        """See `UserGym.rows`."""
        return small_functions()

    def opening(self, row: Function) -> str:
        """The test input."""
        return "".join(f"{number:g}" for number in row.test)

    async def respond(self, row: Function, act: Act, own: dict[str, Any]) -> Reply:
        """See `UserGym.respond`."""
        reply = await super().respond(row, act, own)
        return Reply(text="x", reward=0.0) if reply.text == "Wrong." else reply

    def numbers(self, content: str) -> tuple[float, ...] | None:
        """Two digits below 5."""
        fits = len(content) == 2 and all(digit in "01234" for digit in content)
        return (float(content[0]), float(content[1])) if fits else None


@cache
def small_functions() -> tuple[SmallFunction, ...]:
    """All instances: test inputs change fastest."""
    return tuple(
        SmallFunction(rule=f"{p} * a + {q} * b", test=(float(x), float(y)), expected=float((p * x + q * y) % MODULUS))
        for p, q, x, y in product(FACTORS, repeat=4)
    )
