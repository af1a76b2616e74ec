"""Fundamental capability: whether an answer does what it was asked, in words that can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylign.chat.thoughts import answer_text
from raylign.data.questions import conversation_of
from raylign.recipes.quark_medical.asking import JudgedReward, Question, object_schema
from raylign.recipes.quark_medical.diagnosis import LOST
from raylign.records import Prompt, Trajectory, Value

BEST = 10
ASPECTS = ("instruction", "readability")
INSTRUCTION = """You rate how useful an answer to a medical question is to the person who asked, whether or not its
facts are right. Reply with JSON only: {"instruction": <0 to 10: it does all that was asked>, "readability": <0 to 10: a
lay person can follow it>}."""


class Helpful(JudgedReward):
    """scale * (share * instruction + (1 - share) * readability) / 10, both rated by a judge from 0 to 10.

    Details: ``lost``, what is rated below half.
    """

    @dataclass
    class Config(JudgedReward.Config):
        """Who rates, and how the ratings are weighed."""

        instruction: float = 0.5  # share of the first rating
        scale: float = 1.0  # what the best answer gets

        def __post_init__(self) -> None:
            super().__post_init__()
            if not 0 <= self.instruction <= 1 or self.scale <= 0:
                raise ValueError(
                    f"instruction={self.instruction}, scale={self.scale}: a share between 0 and 1, and above 0"
                )

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One value per sample."""
        asked = conversation_of(prompt)
        rating = {"type": "integer", "minimum": 0, "maximum": BEST}
        schema = object_schema(**dict.fromkeys(ASPECTS, rating))
        questions = [
            Question(INSTRUCTION, {"question": asked, "answer": answer_text(prompt, trajectory)}, schema, _read)
            for trajectory in trajectories
        ]
        return [self._value(ratings) for ratings in self.answers(questions)]

    def _value(self, ratings: Mapping[str, int]) -> Value:
        share = self.config.instruction
        mean = (share * ratings["instruction"] + (1 - share) * ratings["readability"]) / BEST
        return Value(score=self.config.scale * mean, details={LOST: [name for name in ASPECTS if ratings[name] < 5]})


def _read(reply: Any) -> dict[str, int]:
    ratings = {name: reply[name] for name in ASPECTS}
    if wrong := [name for name in ASPECTS if type(ratings[name]) is not int or not 0 <= ratings[name] <= BEST]:
        raise ValueError(f"{wrong[0]} is {ratings[wrong[0]]!r}, no whole number from 0 to {BEST}")
    return ratings
