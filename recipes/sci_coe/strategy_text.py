"""What a verifier said -> the strategy that the judge reads: behind its heading, without thoughts, without the answer.

A strategy that states the final answer would have the judge compare results in place of checking them. It is cut out,
and the reward of whoever wrote it is lowered.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from raylign.actors.reward.forms import announced
from raylign.chat.thoughts import without_thoughts
from raylign.recipes.sci_coe.prompts import HEADING

CUT = "[answer removed]"
SHORTEST = 3  # letters and digits of an answer that is cut out wherever it stands; shorter ones stand in any text
LETTER = r"(?-i:\(?[B-HJ]\)?(?=[\s.,;]|$)|\([AI]\)|[AI](?=[.,;]|\s*$))"  # of an option; A and I are words, too
VALUE = rf"(?:[-+\u2212]?\$?\\?[\d.]*\d[^\s;]*|{LETTER}|\$[^$]+\$)"
# fmt: off
STATED = re.compile(
    r"\\(?:boxed|fbox)\s*\{(?:[^{}]|\{[^{}]*\})*\}"
    r"|<(?P<tag>(?:final[ _-]?)?(?:answer|ans))>.*?</(?P=tag)>"
    r"|####[^\n]+"
    rf"|\b(?:final\s+|correct\s+)?answer\s*\**\s*:\s*\**\s*{VALUE}"
    r"|\b(?:final\s+|correct\s+|right\s+)?(?:answer|result)\s+(?:is|equals|should\s+(?:be|equal)|must\s+(?:be|equal)"
    rf"|=)\s*(?:exactly\s+|about\s+|approximately\s+)?[:=]?\s*{VALUE}",
    re.IGNORECASE | re.DOTALL,
)
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """A strategy as the judge reads it, and whether it stated an answer. Empty text: there is none.

    Example: ``Strategy(text="Recompute in joules.", stated=False)``
    """

    text: str
    stated: bool


def read_strategy(text: str, question: str, answers: Collection[str]) -> Strategy:
    """The strategy in a verifier's text.

    answers: that solutions came to, or that are right; cut out where they stand as they are, unless the question has
    them too.
    """
    said = without_thoughts(text)
    _, heading, behind = said.rpartition(HEADING)
    said = behind.strip(" \n*") if heading else said
    kept, cuts = STATED.subn(CUT, said)
    for answer in sorted({answer.strip() for answer in answers}, key=len, reverse=True):
        if sum(letter.isalnum() for letter in answer) >= SHORTEST and not _stands(answer).search(question):
            kept, more = _stands(answer).subn(CUT, kept)
            cuts += more
    kept = kept.strip()
    return Strategy(text="" if not kept.replace(CUT, "").strip(" .,;:*") else kept, stated=cuts > 0)


def answers_of(solutions: Collection[str]) -> set[str]:
    """The answers that solutions announce (see `raylign.actors.reward.forms`)."""
    said = (announced(without_thoughts(solution)) for solution in solutions)
    return {answer.strip() for answer in said if answer and answer.strip()}


def _stands(answer: str) -> re.Pattern[str]:
    """The answer by itself, not within a longer word or number."""
    return re.compile(rf"(?<![\w.]){re.escape(answer)}(?![\w]|\.\d)")
