"""What `test_own_settings.py` evaluates with: a view that asks otherwise, and a measure that counts what it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raylign.contracts import Measure, View
from raylign.records import Group, Prompt


class Prefixed(View):
    """Puts a system message before every question, and keeps the first `most` of them."""

    @dataclass
    class Config:
        """What it says, and how many prompts are left."""

        text: str = ""
        most: int = 0

    def __init__(self, config: Config, *, tokenizer: Any, seed: int) -> None:
        super().__init__(config)
        self._template = tokenizer

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """See `View.prompts`."""
        return [self._prefixed(prompt) for prompt in prompts[: self.config.most or None]]

    def _prefixed(self, prompt: Prompt) -> Prompt:
        messages = ({"role": "system", "content": self.config.text}, *prompt.messages)
        ids = self._template.prompt_ids(messages, prompt.tools)
        return replace(prompt, messages=messages, token_ids=np.array(ids, np.int32))


class Turns(Measure):
    """Calls per trajectory as a ratio of sums, and a row for each group."""

    @dataclass
    class Config:
        """No settings."""

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """See `Measure.metrics`."""
        calls = [len(trajectory.calls) for group in groups for trajectory in group.trajectories]
        return {"calls": sum(calls) / len(calls)}

    def table(self, groups: Sequence[Group]) -> list[Mapping[str, Any]]:
        """See `Measure.table`."""
        return [{"prompt": group.prompt.id, "samples": len(group.trajectories)} for group in groups]
