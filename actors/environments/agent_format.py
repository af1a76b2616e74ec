"""What a policy writes in one turn, read as actions: the RAGEN agent format and a compact one for tiny models.

The format of TSR and RAGEN (arXiv 2602.11767; RAGEN-AI/RAGEN): a thinking span, then an answer span that holds action
names separated by a double bar. One regular expression wants the thinking span closed and the answer span whole; where
it finds nothing there are no actions. The tag that opens the thinking may stand in the prompt, as templates put it.
Blocks longer than the turn's cap are cut, names that the game does not know are dropped, and a turn whose block was
empty or lost a name costs a penalty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

TURN = re.compile(r"</think>\s*<answer>(.*?)</answer>", re.DOTALL)  # many chat templates write the first <think>
SEPARATOR = "||"


class AgentFormat(Enum):
    """The format of actions, and how detailed an observation is."""

    answer = "answer"  # <think>...</think><answer>Up || Left</answer>
    letters = "letters"  # the whole turn is letters, one an action: UL


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The actions of one turn.

    Example: ``Block(actions=(1, 3), dropped=0)``
    """

    actions: tuple[int, ...]  # known ones, in order, at most the turn's cap
    dropped: int  # names within the cap that the game does not know


def words_of(text: str, form: AgentFormat) -> list[str]:
    """The names in a turn, stripped; none when it is not in the format.

    Example: ``words_of("<think>a</think> <answer>Up || Left</answer>", AgentFormat.answer) == ["Up", "Left"]``
    """
    if form is AgentFormat.letters:
        return [letter for letter in text if not letter.isspace()]
    answer = answer_of(text)
    return [word.strip() for word in answer.split(SEPARATOR) if word.strip()] if answer is not None else []


def answer_of(text: str) -> str | None:
    """The text of the answer span after a thinking span, stripped; None without one."""
    span = TURN.search(text)
    return span[1].strip() if span else None


def read_block(text: str, numbers: Mapping[str, int], cap: int, form: AgentFormat) -> Block:
    """The actions of a turn. `numbers` maps lower-case names (or letters) to actions; case does not matter."""
    words = words_of(text, form)[:cap]
    actions = tuple(numbers[word.lower()] for word in words if word.lower() in numbers)
    return Block(actions=actions, dropped=len(words) - len(actions))


def how_to_answer(names: Sequence[str], cap: int, example: str = "") -> str:
    """The paragraph of an observation that explains the answer format."""
    example = example or f" {SEPARATOR} ".join(names[: min(cap, 2)])
    count = "one action" if cap == 1 else f"1 to {cap} actions separated by {SEPARATOR}"
    return (
        f"Actions: {', '.join(names)}. Answer with {count}.\n"
        f"Write exactly: <think>your thoughts</think><answer>{example}</answer>"
    )
