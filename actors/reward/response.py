"""Rewards that look at one response's text at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import wraps
from typing import Any, ClassVar

import numpy as np

from raylign.chat.thoughts import answer_text, without_thoughts
from raylign.contracts import RewardFunction
from raylign.records import Call, Prompt, StopReason, Trajectory, Value

UNCLOSED = 32
BOXES = ("\\boxed", "\\fbox")


class ResponseReward(RewardFunction):
    """A reward function that is made of a verdict on each response's text, without its thoughts."""

    what = "a reward of one response"
    reads_thoughts: ClassVar[bool] = False  # True: `judge` gets the thoughts as well, for they are what it is about

    def __init_subclass__(cls, **options: Any) -> None:
        """Whoever asks a verifier for a verdict, another one included: it gets the answer alone."""
        super().__init_subclass__(**options)
        own = vars(cls).get("judge")
        if own is not None and not cls.reads_thoughts:

            @wraps(own)
            def judge(self: ResponseReward, prompt: Prompt, response: str) -> Value:
                verdict: Value = own(self, prompt, without_thoughts(response))
                return verdict

            cls.judge = judge  # type: ignore[method-assign]

    @abstractmethod
    def judge(self, prompt: Prompt, response: str) -> Value:
        """The verdict on one response, given as its answer alone (`raylign.chat.thoughts`).

        Raises when it cannot be judged, above all when the gold answer is unusable.
        """

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One verdict per trajectory, on all that was answered in it."""
        return [self.judge(prompt, self._said(prompt, trajectory)) for trajectory in trajectories]

    def _said(self, prompt: Prompt, trajectory: Trajectory) -> str:
        return trajectory.text if self.reads_thoughts else answer_text(prompt, trajectory)


def trajectory_of(prompt: Prompt, response: str) -> Trajectory:
    """A trajectory without tokens that says `response`, for probing a reward function."""
    nothing = np.zeros(0, np.int32)
    call = Call(
        context_ids=nothing,
        token_ids=nothing,
        logprobs=np.zeros(0, np.float32),
        versions=nothing,
        stop=StopReason.EOS,
        text=response,
    )
    return Trajectory(prompt_key=prompt.key, sample_index=0, calls=(call,), seed=0, stop=StopReason.EOS)


def last_boxed(text: str) -> str | None:
    r"""What stands in the last complete ``\boxed{...}`` or ``\fbox{...}``, or None; escaped braces are skipped.

    Behind it at most `UNCLOSED` may lack their end: each costs a way through the rest of the text.
    """
    end = len(text)
    for _ in range(UNCLOSED):
        start, name = max((text.rfind(name, 0, end), name) for name in BOXES)
        if start < 0:
            return None
        inside = _braced(text, start + len(name))
        if inside is not None:
            return inside
        end = start
    return None


def _braced(text: str, start: int) -> str | None:
    while start < len(text) and text[start] == " ":
        start += 1
    if start >= len(text) or text[start] != "{":
        return None
    depth, position = 0, start
    while position < len(text):
        letter = text[position]
        if letter == "\\":
            position += 1
        elif letter == "{":
            depth += 1
        elif letter == "}":
            depth -= 1
            if depth == 0:
                return text[start + 1 : position].strip()
        position += 1
    return None
