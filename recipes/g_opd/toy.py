"""The task of scale=tiny: read out what stands in two cells, in a fixed form of 16 letters between fillers.

    prompt   1c2a3h4b5e6d7a8f?37
    answer   vzxu 3h wyu 7a zxv ha      written without spaces: fillers, cell, fillers, cell, fillers, both again

The base model imitates traces in which each colour is a random one now and then, so it reads out correctly only
sometimes: reinforcement learning makes a teacher of it, and distillation must recover what that teacher has learned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from raylign.actors.reward.response import ResponseReward
from raylign.contracts import RowGenerator
from raylign.data.rows import DataRow
from raylign.errors import DataError
from raylign.records import Prompt, Value

CELLS = 8
FILLERS = "uvwxyz"
LENGTH = 16
# domain -> names of the cells, what may stand in them; without a common letter
TASKS = {"colours": ("12345678", "abcdefgh"), "shapes": ("ABCDEFGH", "ijklmnop")}


class ReadOut(RowGenerator):
    """Rows of the read-out task; their targets are wrong now and then, their answers are right."""

    @dataclass
    class Config:
        """Which sub-tasks, equally frequent, and the chance that a colour of a target is a random one."""

        domains: list[str] = field(default_factory=lambda: ["colours"])
        noise: float = 0.5

        def __post_init__(self) -> None:
            unknown = sorted(set(self.domains) - set(TASKS))
            if unknown or not self.domains:
                raise ValueError(f"domains {unknown or 'none'}: choose from {', '.join(TASKS)}")
            if not 0 <= self.noise <= 1:
                raise ValueError(f"noise={self.noise} is no probability")

    def __init__(self, config: Config) -> None:
        self.config = config

    def rows(self, size: int, seed: int) -> Iterator[DataRow]:
        """`size` rows, each sampled independently."""
        rng = np.random.default_rng([seed, 2602, 12125])
        for number in range(size):
            domain = str(rng.choice(self.config.domains))
            names, things = TASKS[domain]
            cells = rng.choice(list(things), CELLS)
            first, second = rng.choice(CELLS, 2, replace=False)
            content = "".join(f"{name}{thing}" for name, thing in zip(names, cells, strict=True))
            said = [
                str(rng.choice(list(things)) if rng.random() < self.config.noise else cells[i]) for i in (first, second)
            ]
            fill = ["".join(rng.choice(list(FILLERS), count)) for count in (4, 3, 3)]
            yield DataRow(
                messages=({"role": "user", "content": f"{content}?{names[first]}{names[second]}"},),
                place=f"read-out {number}",
                answer=f"{cells[first]}{cells[second]}",
                target=f"{fill[0]}{names[first]}{said[0]}{fill[1]}{names[second]}{said[1]}{fill[2]}{said[0]}{said[1]}",
                domain=domain,
            )


class ReadOutReward(ResponseReward):
    """1 when the answer has its 16 letters and the last two are what stands in the two cells; else 0."""

    @dataclass
    class Config:
        """No settings."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Compare the last two letters. Raises DataError on a prompt of another task."""
        gold = str(prompt.answer)
        if len(gold) != 2:
            raise DataError(f"the answer {gold!r} is none of the read-out task")
        return Value(score=float(len(response) == LENGTH and response.endswith(gold)))

    def gold(self, prompt: Prompt) -> str | None:
        """Fillers and the answer."""
        return FILLERS[0] * (LENGTH - 2) + str(prompt.answer)

    def wrong(self, prompt: Prompt) -> str | None:
        """Nothing but fillers."""
        return FILLERS[0] * LENGTH
