"""The whole response against a text."""

from __future__ import annotations

from dataclasses import dataclass

from raylign.actors.reward.alternatives import alternatives
from raylign.actors.reward.asking import asked
from raylign.actors.reward.forms import answer_in, written
from raylign.actors.reward.response import ResponseReward, last_boxed
from raylign.records import Prompt, Value


class ExactMatch(ResponseReward):
    r"""1 when the response equals a gold answer, white space at both ends ignored; else 0.

    Where the prompt asks for a form (``\boxed{}``, ``<answer>`` tags, see `forms`), what stands in it counts too;
    where it asks for none, what stands in the response's last box.
    """

    cpu_s = 2.0

    @dataclass
    class Config:
        """What counts as equal."""

        ignore_case: bool = False
        collapse_spaces: bool = False  # any run of white space counts as one space

    def __init__(self, config: Config) -> None:
        self.config = config

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Compare texts. Raises ValueError when the prompt has no gold answer."""
        golds = {self._plain(gold) for gold in alternatives(prompt.answer)}
        form = asked(prompt)
        given = answer_in(response, form) if form else last_boxed(response)
        said = [response] if given is None else [response, given]
        return Value(score=float(any(self._plain(text) in golds for text in said)))

    def gold(self, prompt: Prompt) -> str | None:
        """The first gold answer, in the form that the prompt asks for."""
        return None if prompt.answer is None else self._written(prompt, alternatives(prompt.answer)[0])

    def wrong(self, prompt: Prompt) -> str | None:
        """All gold answers with something after them."""
        return None if prompt.answer is None else self._written(prompt, f"{' '.join(alternatives(prompt.answer))} not")

    def _written(self, prompt: Prompt, answer: str) -> str:
        form = asked(prompt)
        return answer if form is None else written(answer, form)

    def _plain(self, text: str) -> str:
        text = " ".join(text.split()) if self.config.collapse_spaces else text.strip()
        return text.casefold() if self.config.ignore_case else text
