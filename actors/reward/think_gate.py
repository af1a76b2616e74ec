"""A verifier behind the form of a thinking response: one closed thought, then a boxed answer."""

from __future__ import annotations

from dataclasses import dataclass

from raylign.actors.reward.response import ResponseReward, last_boxed
from raylign.config.build import build
from raylign.config.schema import Node, node
from raylign.records import Prompt, Value


class ThinkGate(ResponseReward):
    r"""A verifier that is only asked about the answer of a well-formed thinking response.

    0 when the response opens a think tag itself (the chat template already did), when it does not close exactly one, or
    when no ``\boxed`` (or ``\fbox``) stands after the tag; else the verdict of `verifier` on that box. Details:
    ``format`` (0 or 1) and ``ungated``, the verdict on the last box anywhere, whatever the tags say.
    """

    reads_thoughts = True

    @dataclass
    class Config:
        """Tags and the verifier behind them; no opening tag: any text before the closing one is thought."""

        verifier: Node = node(ResponseReward, "raylign.actors.reward.boxed.BoxedMath")
        open_tag: str = "<think>"
        close_tag: str = "</think>"

        def __post_init__(self) -> None:
            if not self.close_tag:
                raise ValueError("close_tag must be a text: without it nothing tells the thought from the answer")

    def __init__(self, config: Config) -> None:
        self.config = config
        self._verifier = build(ResponseReward, config.verifier, "verifier")
        self.isolated, self.cpu_s = self._verifier.isolated, self._verifier.cpu_s
        self.maximum = self._verifier.maximum

    def judge(self, prompt: Prompt, response: str) -> Value:
        """The gated verdict. Raises whatever the verifier raises on a prompt that it cannot judge."""
        well_formed = self._well_formed(response)
        everywhere = self._verdict(prompt, response)
        score = 0.0
        if well_formed:
            score = self._verdict(prompt, response.partition(self.config.close_tag)[2])
        return Value(score=score, details={"format": float(well_formed), "ungated": everywhere})

    def gold(self, prompt: Prompt) -> str | None:
        """A closed thought and the verifier's own gold response."""
        gold = self._verifier.gold(prompt)
        return None if gold is None else f"{self.config.close_tag}\n{gold}"

    def wrong(self, prompt: Prompt) -> str | None:
        """The gold response with its thought left open."""
        return self._verifier.gold(prompt)

    def _well_formed(self, response: str) -> bool:
        opened = bool(self.config.open_tag) and self.config.open_tag in response
        return not opened and response.count(self.config.close_tag) == 1

    def _verdict(self, prompt: Prompt, text: str) -> float:
        boxed = last_boxed(text.replace("\\fbox", "\\boxed"))
        if boxed is None:
            return 0.0
        return self._verifier.judge(prompt, f"\\boxed{{{boxed}}}").score
