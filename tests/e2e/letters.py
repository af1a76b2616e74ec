"""What `test_resume.py` learns from: a reward that a random model gets in part, and parts that remember by arrays.

The workers of `short_runs.cluster` have this folder on their path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from raylign.data.source import DatasetSource
from raylign.objectives.shaping import WeightedSum
from raylign.records import Group, Prompt


def share_of_letters(prompt: str, response: str, answer: str, **_: Any) -> float:
    """Share of ASCII letters among the characters of a response."""
    return sum(character.isascii() and character.isalpha() for character in response) / max(1, len(response))


class AgainstHistory(WeightedSum):
    """Scores grow with the distance from the mean of all earlier ones, which lie in an array."""

    @dataclass
    class Config(WeightedSum.Config):
        """No more settings."""

    def __init__(self, config: Config, **made_with: Any) -> None:
        super().__init__(config, **made_with)
        self._history = np.zeros(0)

    def score(self, groups: Sequence[Group]) -> list[Group]:
        """See `RewardShaper.score`."""
        mean = self._history.mean() if self._history.size else 0.0
        sums = super().score(groups)
        self._history = np.concatenate([self._history, *([s for s in g.scores if s is not None] for g in sums)])
        return [replace(g, scores=tuple(None if s is None else abs(s - mean) * s for s in g.scores)) for g in sums]

    def save(self, folder: Path) -> None:
        """See `StatefulPart.save`."""
        np.savez(folder / "history.npz", sums=self._history)

    def restore(self, folder: Path) -> None:
        """See `StatefulPart.restore`."""
        with np.load(folder / "history.npz") as arrays:
            self._history = arrays["sums"]


class Retold(DatasetSource):
    """Hands out a third of the prompts once more, drawn by the lengths that it has observed, which lie in an array."""

    @dataclass
    class Config(DatasetSource.Config):
        """No more settings."""

    def __init__(self, config: Config, *, prompts: Sequence[Prompt], seed: int, tokenizer: Any = None) -> None:
        super().__init__(config, prompts=prompts, seed=seed, tokenizer=tokenizer)
        self._lengths = np.zeros((len(prompts), 2))
        self._numbers = {prompt.id: number for number, prompt in enumerate(prompts)}
        self._again = 0

    def next(self, n: int) -> list[Prompt]:
        """See `PromptSource.next`."""
        longest = np.argsort(-self._lengths[:, 0], kind="stable")[: n // 3] if self._lengths.any() else []
        self._again += 1
        old = [replace(self._prompts[number], visit=1000 + self._again) for number in longest]
        return [*old, *super().next(n - len(old))]

    def observe(self, groups: Sequence[Group]) -> None:
        """See `PromptSource.observe`."""
        for group in groups:
            lengths = [trajectory.response_length for trajectory in group.trajectories]
            self._lengths[self._numbers[group.prompt.id]] = np.mean(lengths), np.std(lengths)

    def state_dict(self) -> dict[str, Any]:
        """See `PromptSource.state_dict`."""
        return {**super().state_dict(), "again": self._again}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `PromptSource.load_state_dict`."""
        super().load_state_dict(state)
        self._again = state["again"]

    def save(self, folder: Path) -> None:
        """See `StatefulPart.save`."""
        (folder / "deep").mkdir()
        np.save(folder / "deep" / "lengths.npy", self._lengths)

    def restore(self, folder: Path) -> None:
        """See `StatefulPart.restore`."""
        self._lengths = np.load(folder / "deep" / "lengths.npy")
