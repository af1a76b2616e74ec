"""Guess a number: a whole environment in one file."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any

from raylign.environment import Environment, Observation
from raylign.records import Prompt


class GuessNumber(Environment):
    """The policy names numbers; it is told whether the hidden one is larger or smaller. 1 for a hit, else 0."""

    @dataclass
    class Config:
        """Settings, as `environment.fn.<name>=...` on the command line."""

        highest: int = 9
        turns: int = 4

        def __post_init__(self) -> None:
            if self.highest < 2:
                raise ValueError(f"highest = {self.highest}: needs at least two numbers to guess among")

    def __init__(self, config: Config) -> None:
        self.config = config
        self.hidden = self.turn = 0

    def reset(self, prompt: Prompt, seed: int) -> Observation:
        """The instance (``env_seed``) hides the number; `seed` would draw the episode's noise, but there is none."""
        self.hidden = random.Random(prompt.meta["env_seed"]).randint(1, self.config.highest)
        self.turn = 0
        rules = f"Guess my number from 1 to {self.config.highest}, with one number a turn."
        # Instances that begin alike count as one prompt: a number of its own, which gives nothing away, names each.
        return self._say(f"{rules} Game {prompt.meta['env_seed']}.")

    def step(self, action: str) -> Observation:
        """A turn without a number is answered, not raised."""
        self.turn += 1
        number = re.search(r"\d+", action)
        hit = number is not None and int(number[0]) == self.hidden
        flags = {"success": hit, "valid": number is not None, "turn": self.turn - 1}
        if hit or self.turn >= self.config.turns:
            return Observation(reward=float(hit), done=True, flags=flags)
        if number is None:
            return self._say("Name a number.", reward=0.0, flags=flags)
        return self._say("larger" if int(number[0]) < self.hidden else "smaller", reward=0.0, flags=flags)

    def snapshot(self) -> Any:
        """Everything that `step` looks at: a search can then try actions without playing them."""
        return self.hidden, self.turn

    def restore(self, state: Any) -> None:
        """Stand where the snapshot was taken."""
        self.hidden, self.turn = state

    def _say(self, text: str, **outcome: Any) -> Observation:
        return Observation(messages=({"role": "user", "content": text},), **outcome)
