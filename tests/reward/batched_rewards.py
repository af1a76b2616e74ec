"""A reward that scores several items in one call, well or badly; imported by path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from raylign.contracts import RewardFunction, ScoredItem
from raylign.records import Prompt, Trajectory, Value


class Batched(RewardFunction):
    """The number that a text is; `calls` has the items of each call."""

    batched = True
    calls: ClassVar[list[int]] = []

    @dataclass
    class Config:
        """How it fails."""

        lose: bool = False
        isolated: bool = False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.isolated = config.isolated

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        (result,) = self.score_batch([(prompt, trajectories)])
        if isinstance(result, Exception):
            raise result
        return result

    def score_batch(self, items: Sequence[ScoredItem]) -> list[list[Value] | Exception]:
        self.calls.append(len(items))
        if self.config.lose and len(items) > 1:
            return []
        return [self._one(trajectories[0].text) for _, trajectories in items]

    def _one(self, text: str) -> list[Value] | Exception:
        if text == "raise":
            raise ValueError(text)
        if text == "exit":
            raise SystemExit(3)
        if text == "marked":
            return ValueError(text)
        return [] if text == "short" else [Value(score=float(text))]
