r"""A small reader of LaTeX numbers and polynomials, exact, without evaluating anything that a text may smuggle in.

expression = ["-"] term {("+" | "-") term};  term = power {[\cdot | \times | "/" | \div] power} (also by juxtaposition);
power = atom ["^" exponent];  atom = number | \pi | letter | \sqrt[n]{..} | \frac{..}{..} | "(" expression ")".
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

TOKEN = re.compile(r"\s*(\\[A-Za-z]+|\d+\.\d+|\.\d+|\d+|[A-Za-z]|.)", re.DOTALL)
LONGEST = 200
DIGITS = 18
EXPONENT = 12


class Unreadable(ValueError):
    """The text is no number and no polynomial of this grammar."""


@lru_cache(maxsize=65536)
def parse(text: str) -> Any:
    """The sympy expression of a text; letters are symbols, `i` is one too. Raises Unreadable on anything else."""
    if not text or len(text) > LONGEST:
        raise Unreadable(text[:40])
    reader = _Reader(TOKEN.findall(text.strip()))
    value = reader.expression()
    if reader.position < len(reader.tokens):
        raise Unreadable(f"{text}: nothing is expected at {reader.tokens[reader.position]!r}")
    return value


def latex(value: Any) -> str:
    """LaTeX of an exact number, a fraction as one fraction."""
    import sympy

    return str(sympy.latex(value))


class _Reader:
    """Recursive descent over the tokens of one text."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0

    @property
    def token(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.token
        if not token or (expected and token != expected):
            raise Unreadable(f"{token!r} instead of {expected!r}")
        self.position += 1
        return token

    def expression(self) -> Any:
        sign = 1
        while self.token in ("-", "+"):
            sign = -sign if self.take() == "-" else sign
        value = sign * self.term()
        while self.token in ("+", "-"):
            value = value + self.term() if self.take() == "+" else value - self.term()
        return value

    def term(self) -> Any:
        value = self.power()
        while True:
            if self.token in ("\\cdot", "\\times", "*"):
                self.take()
                value = value * self.power()
            elif self.token in ("/", "\\div"):
                self.take()
                value = value / self._not_zero(self.power())
            elif self.token and (self.token in "(" or self.token[0] == "\\" or self.token.isalnum()):
                value = value * self.power()
            else:
                return value

    def power(self) -> Any:
        value = self.atom()
        if self.token != "^":
            return value
        self.take()
        exponent = self.group()
        if not exponent.is_Integer or abs(exponent) > EXPONENT or (exponent < 0 and value == 0):
            raise Unreadable(f"exponent {exponent}")
        return value**exponent

    def atom(self) -> Any:
        token = self.take()
        if token == "(":
            value = self.expression()
            self.take(")")
            return value
        if token == "{":
            self.position -= 1
            return self.group()
        if token == "\\sqrt":
            return self._root()
        if token == "\\frac":
            upper = self.group()
            return upper / self._not_zero(self.group())
        return _leaf(token)

    def group(self) -> Any:
        """What stands in braces, or the next digit or letter, as TeX reads an argument."""
        if self.token == "{":
            self.take()
            value = self.expression()
            self.take("}")
            return value
        if self.token.isdigit() and len(self.token) > 1:
            digit, self.tokens[self.position] = self.token[0], self.token[1:]
            import sympy

            return sympy.Integer(digit)
        return self.atom()

    def _root(self) -> Any:
        import sympy

        degree = sympy.Integer(2)
        if self.token == "[":
            self.take()
            degree = self.expression()
            self.take("]")
        inside = self.group()
        if not degree.is_Integer or not 2 <= degree <= EXPONENT:
            raise Unreadable(f"root of degree {degree}")
        if inside.free_symbols or not inside.is_nonnegative:
            raise Unreadable("a root of something that is no positive number")
        return sympy.root(inside, degree)

    @staticmethod
    def _not_zero(value: Any) -> Any:
        if value == 0:
            raise ZeroDivisionError
        return value


def _leaf(token: str) -> Any:
    import sympy

    if token == "\\pi":
        return sympy.pi
    if token[0].isdigit() or token[0] == ".":
        if len(token) > DIGITS:
            raise Unreadable(f"{token} has more than {DIGITS} digits")
        return sympy.Rational(token)
    if token.isalpha() and len(token) == 1:
        return sympy.Symbol(token)
    raise Unreadable(token)
