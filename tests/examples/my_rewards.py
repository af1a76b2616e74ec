"""A reward of one's own: a part with settings that proves itself before the run starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raylign.contracts import RewardFunction
from raylign.records import Prompt, Trajectory, Value


class Near(RewardFunction):
    """1 for the right number, less by `slope` for every unit beside it, down to 0."""

    @dataclass
    class Config:
        """Settings, as `rewards.<name>.fn.<name>=...` on the command line."""

        slope: float = 0.1

    config: Config

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """A response that is no number is 0; what cannot be judged would be raised, and be missing, never 0."""
        return [Value(score=self._near(trajectory.text, str(prompt.answer))) for trajectory in trajectories]

    def gold(self, prompt: Prompt) -> str:
        """Must score `maximum`, which is 1."""
        return str(prompt.answer)

    def wrong(self, prompt: Prompt) -> str:
        """Must score less."""
        return "none"

    def _near(self, text: str, answer: str) -> float:
        try:
            return max(0.0, 1.0 - self.config.slope * abs(int(text) - int(answer)))
        except ValueError:
            return 0.0
