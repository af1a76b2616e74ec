"""reasoning-gym's own scorers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from raylign.actors.reward.forms import tagged
from raylign.actors.reward.response import ResponseReward, last_boxed
from raylign.contracts import finite
from raylign.records import Prompt, Value


class AnswerExtraction(Enum):
    """Which part of the response is the answer; white space at both ends is dropped."""

    tag = "tag"  # the last <answer>...</answer>; a response without one is wrong
    tag_or_whole = "tag_or_whole"
    boxed = "boxed"  # the last \boxed{...}; a response without one is wrong
    last_line = "last_line"
    whole = "whole"


class ProceduralScore(ResponseReward):
    """What the data set's `score_answer` gives for the extracted answer, between 0 and 1.

    The default scorer of reasoning-gym gives a wrong answer that *contains* the right one part of the score (``470``
    for ``47`` gets 0.67), a prize for stuffing digits. `partial_credit=False` counts only what the scorer calls fully
    right; its own number stays in ``details["scorer"]``.
    """

    isolated = True  # some scorers evaluate the answer as a sympy expression
    cpu_s = 2.0

    @dataclass
    class Config:
        """How the answer is found and what partly right ones get."""

        extraction: AnswerExtraction = AnswerExtraction.tag_or_whole
        partial_credit: bool = False

    def __init__(self, config: Config) -> None:
        import reasoning_gym  # noqa: F401 - 1.5 s, outside any deadline

        self.config = config

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Ask the data set. Raises ValueError when the prompt carries no entry of one.

        A scorer that raises on this answer but grades the entry's own answer as right has found the answer unreadable:
        that is 0. A scorer that fails on both is an error.
        """
        entry = prompt.meta.get("entry")
        if not isinstance(entry, Mapping) or "dataset" not in prompt.meta:
            raise ValueError("the prompt has no reasoning-gym entry (meta: dataset, entry)")
        answer = extract(response, self.config.extraction)
        if answer is None:
            return Value(score=0.0, details={"parsed": None})
        scorer = _scorer(str(prompt.meta["dataset"]), json.dumps(prompt.meta.get("task_args", {}), sort_keys=True))
        try:
            given = finite(float(scorer.score_answer(answer, dict(entry))), "the data set's score")
        except Exception as error:
            # Some scorers parse without care and raise on any text they do not expect.
            if not self._grades_gold(scorer, entry):
                raise
            return Value(score=0.0, details={"parsed": answer, "unreadable": repr(error)[:200]})
        score = given if self.config.partial_credit else float(given >= self.maximum)
        return Value(score=score, details={"parsed": answer, "scorer": given})

    def gold(self, prompt: Prompt) -> str | None:
        """The entry's answer in the form that the extraction wants; None for tasks without one."""
        return None if prompt.answer is None else self._wrapped(str(prompt.answer))

    def wrong(self, prompt: Prompt) -> str | None:
        """A text that no data set has as its answer."""
        return self._wrapped("no answer")

    def _grades_gold(self, scorer: Any, entry: Mapping[str, Any]) -> bool:
        gold = entry.get("answer")
        return gold is not None and float(scorer.score_answer(str(gold), dict(entry))) >= self.maximum

    def _wrapped(self, answer: str) -> str:
        if self.config.extraction is AnswerExtraction.tag:
            return f"<answer>{answer}</answer>"
        return f"\\boxed{{{answer}}}" if self.config.extraction is AnswerExtraction.boxed else answer


def extract(response: str, extraction: AnswerExtraction) -> str | None:
    """The part of the response that is graded, or None when the extraction finds none."""
    if extraction is AnswerExtraction.boxed:
        return last_boxed(response)
    if extraction is AnswerExtraction.last_line:
        return response.strip().rpartition("\n")[2].strip()
    answer = tagged(response) if extraction is not AnswerExtraction.whole else None
    if answer is not None:
        return answer.strip()
    return None if extraction is AnswerExtraction.tag else response.strip()


@lru_cache(maxsize=64)
def _scorer(dataset: str, task_args: str) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(dataset, **{**json.loads(task_args), "seed": 0, "size": 1})
