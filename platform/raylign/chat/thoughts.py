"""Thoughts in what a model says: the answer is what stands outside of them.

| text                                   | answer                                                            |
|----------------------------------------|-------------------------------------------------------------------|
| ``<think>a</think>b``                  | ``b``                                                             |
| ``a</think>b``                         | ``b``: the chat template wrote the opening tag                    |
| ``<think>a</think>b<think>c</think>d`` | ``bd``                                                            |
| ``<think>a``                           | nothing: a thought that is not closed goes to the end             |
| ``the <think> tag``                    | all of it: a tag within a sentence that is never closed is a word |
"""

from __future__ import annotations

import re

from raylign.chat.messages import continues
from raylign.records import Prompt, Trajectory

NAMES = r"(?:seed:)?(?:think(?:ing)?|thought)"
TAG = re.compile(
    rf"<(?P<close>/?){NAMES}>|\[(?P<end>/?)THINK\]|\u25c1(?P<shut>/?)think\u25b7",
    re.IGNORECASE,
)


def without_thoughts(text: str, begun: bool = False) -> str:
    """The answer in a text, without white space around it where a thought was taken off; a text without one as it is.

    begun: it goes on with a thought that was opened before it.
    """
    pieces = answer_places(text, begun)
    if pieces == [(0, len(text))]:
        return text
    return "".join(text[start:end] for start, end in pieces).strip()


def answer_places(text: str, begun: bool = False) -> list[tuple[int, int]]:
    """[start, end) of what stands outside of thoughts, in order; see `without_thoughts`."""
    places, start, thinks = list[tuple[int, int]](), 0, begun
    for tag in TAG.finditer(text):
        closes = _closes(tag)
        if closes and not thinks:
            places.clear()  # all before it was a thought that something else opened
        elif not closes and not thinks:
            places.append((start, tag.start()))
        start, thinks, begun = tag.end(), not closes, begun and not closes
    if thinks and not begun and _in_sentence(text[: places[-1][1]]):
        start, thinks = places.pop()[0], False
    return places if thinks else [*places, (start, len(text))]


def _closes(tag: re.Match[str]) -> bool:
    return bool(tag["close"] or tag["end"] or tag["shut"])


def _in_sentence(before: str) -> bool:
    """Whether what follows stands as a word or quoted behind other text of its line."""
    line = before.rpartition("\n")[2]
    return bool(line.strip()) and line[-1] in " \t`'\"("


def blanked(text: str, begun: bool = False) -> str:
    """The text with blanks in place of its thoughts, so that what is left stands where it stood."""
    blank, end = list[str](), 0
    for start, stop in answer_places(text, begun):
        blank += [" " * (start - end), text[start:stop]]
        end = stop
    return "".join([*blank, " " * (len(text) - end)])


def within_thought(text: str) -> bool:
    """Whether a text ends in a thought that it has opened and not closed."""
    *_, last = [None, *TAG.finditer(text)]
    return last is not None and not _closes(last)


def answer_text(prompt: Prompt, trajectory: Trajectory) -> str:
    """All that was answered, turns joined by newlines; what rewards of text judge."""
    return "\n".join(answers_of(prompt, trajectory))


def answers_of(prompt: Prompt, trajectory: Trajectory) -> list[str]:
    """What was sampled in each turn, without its thoughts.

    A thought goes on from call to call where nothing is said between them. One that the prompt has opened (its
    template, or the open message that it ends with) is closed by what was sampled, or takes all of it.
    """
    opened = continues(prompt.messages) and within_thought(str(prompt.messages[-1].get("content") or ""))
    turns: list[tuple[str, bool]] = []
    before = None
    for call in trajectory.calls:
        if before is not None and not (before.observed or call.fresh or call.role != before.role):
            text, begun = turns.pop()
            turns.append((f"{text}\n{call.text}", begun))
        else:
            sampled = len(call.token_ids) > 0  # what was not is a text of its own, such as a gold answer
            turns.append((call.text, sampled and (prompt.thinks or (opened and before is None))))
        before = call
    return [without_thoughts(text, begun) for text, begun in turns]
