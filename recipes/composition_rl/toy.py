"""The toy task of the paper's small-scale experiment: ``a op b`` with digits, modulo 10, and chains of it.

Depth 1: prompt ``3*4?``, response ``#2``. Depth 2: ``X=3*4;Y=X+9;Y*5?``, response ``X=2;Y=1;#5``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from raylign.actors.reward.exact import ExactMatch
from raylign.contracts import RowGenerator
from raylign.data.rows import DataRow
from raylign.records import Prompt, Value

MODULUS = 10
MARK = "#"


class Digits(RowGenerator):
    """The 300 problems "a op b" with op in {+, -, *}, answers modulo 10."""

    @dataclass
    class Config:
        """No settings: the paper's small-scale experiment has one such task."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def rows(self, size: int, seed: int) -> Iterator[DataRow]:
        """The first `size` problems, all for 0; they do not depend on the seed."""
        every = list(product(range(MODULUS), "+-*", range(MODULUS)))
        for left, op, right in every[: size or None]:
            result = str({"+": left + right, "-": left - right, "*": left * right}[op] % MODULUS)
            question = f"{left}{op}{right}?"
            yield DataRow(
                messages=({"role": "user", "content": question},),
                place=f"digits[{question}]",
                answer=result,
                target=f"{MARK}{result}",
                verifier="exact",
                domain="digits",
                fields={"question": question, "answer": result},
            )


class MarkedAnswer(ExactMatch):
    """1 when what stands after the last mark is the answer, else 0; no mark is 0 too."""

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Compare texts. Raises ValueError when the prompt has no gold answer."""
        _, mark, rest = response.rpartition(MARK)
        return super().judge(prompt, rest if mark else "")

    def _written(self, prompt: Prompt, answer: str) -> str:
        return f"{MARK}{answer}"


def with_solution(prompt: Prompt) -> Prompt:
    """The prompt of a seed or a chain with its gold response as the target."""
    links = prompt.meta["composition"]["links"]
    return replace(prompt, meta={**prompt.meta, "target": solution(links, str(prompt.answer))})


def solution(links: Sequence[Mapping[str, str]], answer: str) -> str:
    """The gold response of a chain: every variable's value in order, then the marked answer."""
    steps = (f"{link['symbol1']}={link['value1']};{link['symbol2']}={link['value2']};" for link in links)
    return f"{''.join(steps)}{MARK}{answer}"
