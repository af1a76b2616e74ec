"""Reward functions that misbehave in every known way; imported by reward actors, not by the tests alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylign.contracts import RewardFunction, Scope
from raylign.records import Prompt, Trajectory, Value


def act(prompt: str, response: str, answer: Any, **meta: Any) -> Any:
    """Does what the response says; `once:` things happen the first time only (a file remembers)."""
    command, _, argument = response.partition(" ")
    if command == "once":
        argument, _, rest = argument.partition(" ")
        flag = Path(argument)
        if flag.exists():
            return 1.0
        flag.touch()
        return act(prompt, rest, answer, **meta)
    if command == "raise":
        raise ValueError(argument)
    if command == "hang":
        hang()
    if command == "exit":
        os._exit(3)
    if command == "sysexit":
        raise SystemExit(3)
    if command == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if command == "sleep":
        time.sleep(float(argument))
        return 1.0
    if command == "child":  # leaves a process of its group behind and hangs
        if os.fork() == 0:
            Path(argument).write_text(str(os.getpid()))
            time.sleep(600)
        hang()
    if command == "pid":
        return float(os.getpid())
    if command == "absent":
        return None
    if command == "text":
        return argument
    return float(command)


def hang() -> None:
    """Hang where Python's own signal handlers do not run: one call into C."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    pow(7, 10**9)


def named(prompt: str, response: str, answer: Any, unit: str = "", bonus: float = 0.0) -> float:
    """Takes some of the prompt's columns and one of the configuration's."""
    return float(response == f"{answer} {unit}") + bonus


def rank(prompt: str, responses: list[str], answer: Any, **meta: Any) -> list[float]:
    """Group scope: the share of responses that are shorter."""
    return [sum(len(other) < len(mine) for other in responses) / len(responses) for mine in responses]


def too_few(prompt: str, responses: list[str], answer: Any, **meta: Any) -> list[float]:
    """Group scope, wrong number of values."""
    return [1.0] * (len(responses) - 1)


class Miscounting(RewardFunction):
    """Returns two values for one trajectory."""

    @dataclass
    class Config:
        """Nothing to set."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        return [Value(score=1.0)] * (len(trajectories) + 1)


class Provable(RewardFunction):
    """gold() and wrong() as the prompt's meta says; scores the number in the text."""

    scope = Scope.TRAJECTORY

    @dataclass
    class Config:
        """Nothing to set."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        return [Value(score=float(act("", trajectory.text, None))) for trajectory in trajectories]

    def gold(self, prompt: Prompt) -> str | None:
        if prompt.meta.get("gold") == "broken":
            raise KeyError("no gold")
        return prompt.meta.get("gold")

    def wrong(self, prompt: Prompt) -> str | None:
        return prompt.meta.get("wrong")


class Verifying(RewardFunction):
    """A verifier with a CPU limit: does what the response says; the prompt's answer is its gold response."""

    isolated = True
    cpu_s = 0.3

    @dataclass
    class Config:
        """Nothing to set."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        return [Value(score=float(act("", trajectory.text, None))) for trajectory in trajectories]

    def gold(self, prompt: Prompt) -> str | None:
        return prompt.answer
