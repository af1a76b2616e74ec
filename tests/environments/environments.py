"""Environments for tests: small, with chance, and able to break on demand."""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylign.environment import Environment, Observation
from raylign.records import Prompt


class Dice(Environment):
    """Every action rolls a die; the sum of the rolls is shown, and an episode ends after `length` of them.

    `breaks` names a file: while it holds a number, a step ends as `how` says and counts it down.
    """

    @dataclass
    class Config:
        length: int = 4
        snapshots: bool = True
        breaks: str = ""
        how: str = "raise"  # raise | exit | hang

    def __init__(self, config: Config) -> None:
        self.config = config
        self.random = random.Random(0)
        self.rolls: list[int] = []
        self.start = 0

    def reset(self, prompt: Prompt, seed: int) -> Observation:
        self.random = random.Random(seed)
        self.start = int(prompt.meta.get("env_seed", 0))
        return Observation(messages=({"role": "user", "content": f"start {self.start}"},))

    def step(self, action: str) -> Observation:
        self._break()
        self.rolls.append(self.random.randint(1, 6))
        done = len(self.rolls) >= self.config.length
        total = self.start + sum(self.rolls)
        return Observation(
            messages=() if done else ({"role": "user", "content": f"{total}:{len(action)}"},),
            reward=float(self.rolls[-1]),
            done=done,
            flags={"total": total, "roll": self.rolls[-1]},
        )

    def snapshot(self) -> Any:
        return (self.random.getstate(), list(self.rolls), self.start) if self.config.snapshots else None

    def restore(self, state: Any) -> None:
        noise, self.rolls, self.start = state[0], list(state[1]), state[2]
        self.random.setstate(noise)

    def reseed(self, seed: int) -> None:
        self.random = random.Random(seed)

    def _break(self) -> None:
        if not self.config.breaks:
            return
        path = Path(self.config.breaks)
        left = int(path.read_text() or 0) if path.exists() else 0
        if not left:
            return
        path.write_text(str(left - 1))
        if self.config.how == "exit":
            os._exit(1)
        if self.config.how == "hang":
            time.sleep(600)
        raise RuntimeError("the die rolled off the table")


class Fickle(Dice):
    """Never the same twice: cannot be replayed."""

    replayable = False

    def reset(self, prompt: Prompt, seed: int) -> Observation:
        return super().reset(prompt, random.SystemRandom().getrandbits(60))


class Slow(Dice):
    """Answers asynchronously, after a while."""

    async def step(self, action: str) -> Observation:  # type: ignore[override]
        await asyncio.sleep(0.01)
        return super().step(action)
