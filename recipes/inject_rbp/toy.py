"""The task of scale=tiny: sums of three numbers, written in paragraphs whose behaviours decide whether they come right.

    question   slips: pdqcrf     p = d, q = c, r = f, letters a .. h for 0 .. 7; how much is p + q + r, modulo 8?
    trace      1Opd. | 2Ppdqcfrfc | 3Vpdqcfrfb | 4Cb       number, behaviour, what it says, the sum so far (. for none)

A Progression (P) adds in two steps: ``2Ppdqcfrfc`` says that p + q is f and that f + r is c. What a behaviour does is
the family's:

    slips     the second step of a P slips three times in ten; a V that follows a P adds anew and repairs
    detours   the question reads xdqcrf, and x is taken for a until an E (Exploration) has read it; P never slips

So slips want a V after the last P, and detours want an E before it. Half of what the model imitates begins with a plan,
``1O2P3V4C|``, and follows it: what is injected in this form is something that it has read before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType

import numpy as np

from raylign.actors.reward.response import ResponseReward
from raylign.contracts import RowGenerator
from raylign.data.rows import DataRow
from raylign.errors import DataError
from raylign.recipes.inject_rbp.behaviours import CONCLUSION, SYMBOLS
from raylign.records import Prompt, Value

LETTERS = "abcdefgh"
MODULUS = len(LETTERS)
LONGEST = 9  # paragraphs, so that a number is one digit
SLIP = 0.3
SLIPS, DETOURS = "slips", "detours"
START: Mapping[str, str] = MappingProxyType({SLIPS: "p", DETOURS: "x"})  # family -> name of its first summand
NAMES = "qr"  # of the others
NONE = "."  # in place of a sum
# The next behaviour O, P, S, E, V, C after none, and after each: how the model thinks by itself.
HABITS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "": (0.80, 0.15, 0.02, 0.01, 0.01, 0.01),
        "O": (0.05, 0.70, 0.05, 0.10, 0.05, 0.05),
        "P": (0.02, 0.55, 0.10, 0.13, 0.08, 0.12),
        "S": (0.02, 0.40, 0.05, 0.13, 0.15, 0.25),
        "E": (0.02, 0.50, 0.05, 0.25, 0.10, 0.08),
        "V": (0.02, 0.40, 0.10, 0.10, 0.08, 0.30),
    }
)
TEMPTED = 1.6  # times as likely that a detour is explored anew


class Sums(RowGenerator):
    """Questions of the families, none twice, in an order drawn by the seed. They bring no target: see `Pretrain`."""

    @dataclass
    class Config:
        """Which families."""

        families: list[str] = field(default_factory=lambda: [SLIPS, DETOURS])

        def __post_init__(self) -> None:
            unknown = sorted(set(self.families) - set(START))
            if unknown or not self.families:
                raise ValueError(f"families {unknown or 'none'}: choose from {', '.join(START)}")

    config: Config

    def rows(self, size: int, seed: int) -> Iterator[DataRow]:
        """`size` rows, 0: all. Raises DataError where there are not so many questions."""
        every = list(product(self.config.families, *[range(MODULUS)] * 3))
        if size > len(every):
            raise DataError(f"data.size={size}: there are {len(every)} sums; fix: set data.size={len(every)} or less")
        order = np.random.default_rng([seed, 2602, 12013]).permutation(len(every))
        for number, place in enumerate(order[: size or None]):
            family, *summands = every[place]
            yield DataRow(
                messages=({"role": "user", "content": question(family, summands)},),
                place=f"sum {number}",
                answer=LETTERS[sum(summands) % MODULUS],
                domain=family,
            )


class SumReward(ResponseReward):
    """1 when the last paragraph is a Conclusion that gives the sum; else 0."""

    @dataclass
    class Config:
        """No settings."""

    config: Config

    def judge(self, prompt: Prompt, response: str) -> Value:
        """The verdict. Raises DataError on a prompt of another task."""
        gold = str(prompt.answer)
        if gold not in LETTERS or len(gold) != 1:
            raise DataError(f"the answer {gold!r} is none of the sums")
        last = response.strip().split("\n")[-1]
        return Value(score=float(len(last) == 3 and last[1] == CONCLUSION and last[2] == gold))

    def gold(self, prompt: Prompt) -> str | None:
        """The conclusion alone."""
        return f"1{CONCLUSION}{prompt.answer}"

    def wrong(self, prompt: Prompt) -> str | None:
        """No conclusion."""
        return f"1O{prompt.answer}"


@dataclass(slots=True)
class Sum:
    """A trace under way: what the first summand is taken for, the sum so far, and whether a P was just written."""

    family: str
    summands: Sequence[int]
    first: int
    total: int | None = None
    added: bool = False

    @classmethod
    def of(cls, family: str, summands: Sequence[int]) -> Sum:
        """Before the first paragraph."""
        return cls(family, summands, summands[0] if family == SLIPS else 0)

    def paragraph(self, symbol: str, rng: np.random.Generator) -> str:
        """What the behaviour writes, without its number."""
        if symbol == "P" or (symbol == "V" and self.added):
            self.added = True
            half = (self.first + self.summands[1]) % MODULUS
            self.total = (half + self.summands[2]) % MODULUS
            if symbol == "P" and self.family == SLIPS and rng.random() < SLIP:
                self.total = (self.total + int(rng.integers(1, MODULUS))) % MODULUS
            numbers = (self.first, self.summands[1], half, self.summands[2], self.total)
            first, second, between, third, total = (LETTERS[number] for number in numbers)
            return f"{symbol}{START[self.family]}{first}{NAMES[0]}{second}{between}{NAMES[1]}{third}{total}"
        self.added = False
        if symbol == "E":
            self.first = self.summands[0]
        read = f"{START[self.family]}{LETTERS[self.first]}" if symbol in "OE" else ""
        return f"{symbol}{read}{NONE if self.total is None else LETTERS[self.total]}"


def question(family: str, summands: Sequence[int]) -> str:
    """As it is asked."""
    names = (START[family], *NAMES)
    return "".join(f"{name}{LETTERS[number]}" for name, number in zip(names, summands, strict=False))


def asked(content: str) -> tuple[str, list[int]]:
    """Family and summands of a question. Raises DataError on another text."""
    family = next((name for name, start in START.items() if content.startswith(start)), "")
    letters = content[1::2]
    if not family or len(letters) != 3 or any(letter not in LETTERS for letter in letters):
        raise DataError(f"{content[:40]!r} is none of the sums")
    return family, [LETTERS.index(letter) for letter in letters]


def habit(family: str, rng: np.random.Generator) -> str:
    """A chain as the model thinks by itself; without a conclusion where it comes to none."""
    chain = ""
    while len(chain) < LONGEST and not chain.endswith(CONCLUSION):
        weights = np.array(HABITS[chain[-1:]])
        weights[SYMBOLS.index("E")] *= TEMPTED if chain and family == DETOURS else 1
        chain += SYMBOLS[int(rng.choice(len(SYMBOLS), p=weights / weights.sum()))]
    return chain


def trace(family: str, summands: Sequence[int], chain: str, rng: np.random.Generator) -> str:
    """The paragraphs of a chain."""
    under_way = Sum.of(family, summands)
    return "\n".join(f"{number}{under_way.paragraph(symbol, rng)}" for number, symbol in enumerate(chain, 1))


def plan_block(chain: str) -> str:
    """A plan as it stands before a question."""
    return "".join(f"{number}{symbol}" for number, symbol in enumerate(chain, 1)) + "|"
