"""The whole response against a text."""

from __future__ import annotations

from dataclasses import dataclass

from raylign.actors.reward.response import ResponseReward
from raylign.records import Prompt, Value


class ExactMatch(ResponseReward):
    """1 when the response equals the gold answer, white space at both ends ignored; else 0."""

    @dataclass
    class Config:
        """What counts as equal."""

        ignore_case: bool = False
        collapse_spaces: bool = False  # any run of white space counts as one space

    def __init__(self, config: Config) -> None:
        self.config = config

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Compare texts. Raises ValueError when the prompt has no gold answer."""
        if prompt.answer is None:
            raise ValueError("the prompt has no gold answer")
        return Value(score=float(self._plain(response) == self._plain(str(prompt.answer))))

    def gold(self, prompt: Prompt) -> str | None:
        """The answer itself."""
        return None if prompt.answer is None else str(prompt.answer)

    def wrong(self, prompt: Prompt) -> str | None:
        """The answer with something after it."""
        return None if prompt.answer is None else f"{prompt.answer} not"

    def _plain(self, text: str) -> str:
        text = " ".join(text.split()) if self.config.collapse_spaces else text.strip()
        return text.casefold() if self.config.ignore_case else text
