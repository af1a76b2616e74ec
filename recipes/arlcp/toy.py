"""The task of scale=tiny: traces that are longer than their answers need, so that there is something to trim."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from raylign.actors.reward.think_gate import ThinkGate
from raylign.contracts import RowGenerator
from raylign.data.rows import DataRow
from raylign.recipes.arlcp.shaper import KeywordCounter
from raylign.records import Prompt, Value

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ZERO = ord("A") - 1  # a need of 1 is shown as A, of 5 as E
REFLECTION, STEP, FILLER = "~", ".", "-"  # the first is a keyword of the shaper; the second is a plain thought


class ToyTraces(RowGenerator):
    """Rows whose prompt shows a need and a digit, e.g. ``kqzxE7`` (need 5, answer 7), and whose target over-thinks.

    Target: ``need + excess`` reflections (the excess is normal, rounded, never below 0), fillers in between, a closing
    tag and the boxed digit. What is learned from it over-thinks as the distilled models do. One mark is one token of
    the tiny model. The four letters in front keep rows apart that ask the same.
    """

    @dataclass
    class Config:
        """Shape of the traces."""

        needs: list[int] = field(default_factory=lambda: [1, 5, 10])  # the difficulties, equally frequent
        excess: float = 8.0  # mean and spread
        spread: float = 4.0
        filler: float = 0.25  # chance of a filler after a reflection

        def __post_init__(self) -> None:
            if not self.needs or min(self.needs) < 0:
                raise ValueError(f"needs={self.needs}: name one difficulty or more, each 0 or more")
            if self.spread < 0 or not 0 <= self.filler <= 1:
                raise ValueError(f"spread={self.spread} must be 0 or more, and filler={self.filler} between 0 and 1")

    def __init__(self, config: Config) -> None:
        self.config = config

    def rows(self, size: int, seed: int) -> Iterator[DataRow]:
        """`size` rows, each sampled independently."""
        config = self.config
        rng = np.random.default_rng([seed, 2602, 12113])
        for number in range(size):
            need, digit = int(rng.choice(config.needs)), int(rng.integers(10))
            count = need + max(0, round(rng.normal(config.excess, config.spread)))
            fillers = rng.random(count) < config.filler
            thought = "".join(REFLECTION + FILLER * bool(filler) for filler in fillers)
            name = "".join(rng.choice(list(LETTERS), 4))
            yield DataRow(
                messages=({"role": "user", "content": f"{name}{chr(ZERO + need)}{digit}"},),
                place=f"toy trace {number}",
                answer=str(digit),
                target=f"{thought}</think>\\boxed{{{digit}}}",
                domain=f"need_{need}",
                meta={"need": need},
            )


class ToyThought(ThinkGate):
    """The gate, and before the closing tag at least as many thoughts as the prompt's ``meta["need"]``: reflections and
    plain steps alike.
    """

    thoughts = KeywordCounter((REFLECTION, STEP))

    def judge(self, prompt: Prompt, response: str) -> Value:
        """The gate's verdict, 0 when the thought was too short."""
        verdict = super().judge(prompt, response)
        thought = response.partition(self.config.close_tag)[0]
        enough = self.thoughts(thought) >= int(prompt.meta["need"])
        return replace(verdict, score=verdict.score * enough)

    def gold(self, prompt: Prompt) -> str | None:
        """Just enough thoughts and the answer."""
        gold = super().gold(prompt)
        return None if gold is None else REFLECTION * int(prompt.meta["need"]) + gold
