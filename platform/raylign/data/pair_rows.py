"""Preference pairs as texts, from files with TRL's columns.

| columns                  | values                                    | the prompt is                              |
|--------------------------|-------------------------------------------|--------------------------------------------|
| prompt, chosen, rejected | texts, or messages (prompt: either)       | ``prompt``                                 |
| chosen, rejected         | whole conversations as messages           | all but the last message, which both share |
| chosen, rejected         | whole dialogues as texts (hh-rlhf)        | all up to the last ``Assistant:``, shared  |

Where ``prompt`` comes with whole conversations (UltraFeedback), the conversations count. A row that a stage wrote
(`rows`) is a pair by the ``chosen`` and ``rejected`` of its ``meta``. Where neither answer is better another column
says so (`ties`), and the order of the two means nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raylign.data.columns import tools_column, with_system
from raylign.data.files import RawRow, read_rows
from raylign.data.messages import from_text, messages_of, said
from raylign.data.rows import MARK, read_row
from raylign.data.ties import is_tie
from raylign.errors import DataError
from raylign.records import Message

TURN = re.compile(r"\n\n(Human|Assistant):")
MEASURES = (
    "score",
    "rating",
    "reward",
    "avg_rating",
    "average_rating",
    "overall_score",
    "rm_score",
    "preference_score",
)
SCORES = tuple(  # as files name them, the chosen answer's first
    (spelling.format("chosen", measure), spelling.format("rejected", measure))
    for measure in MEASURES
    for spelling in ("{1}_{0}", "{0}_{1}", "{1}-{0}", "{0}-{1}", "{0}.{1}")
)
ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PairText:
    """One pair before any tokenizer.

    Example: ``PairText(messages=({"role": "user", "content": "Hi"},), chosen="Hello!", rejected="No.", place="a:1")``
    """

    messages: tuple[Message, ...]
    chosen: Message | str  # a text: one that the assistant says
    rejected: Message | str
    place: str
    tools: tuple[Mapping[str, Any], ...] = ()  # schemas that the chat template renders
    fields: Mapping[str, Any] = field(default_factory=dict)  # what `data.template` may name
    domain: str = ""  # where a stage wrote the row
    tie: bool = False  # neither answer is better
    complete: bool = False  # the messages are what a model is to read: nothing of the run goes around them


def read_pairs(path: str | Path, prompt_key: str = "") -> Iterator[PairText | None]:
    """The pairs of a file, None for a row whose two conversations differ before the last answer.

    Raises DataError on a file or a row that cannot be read.
    """
    for place, row in read_rows(path):
        yield pair_text(row, place, prompt_key)


def pair_text(row: RawRow, place: str, prompt_key: str = "") -> PairText | None:
    """One row with TRL's columns; None when its conversations have no prompt in common. Raises DataError.

    prompt_key: the column that holds the prompt, which must be there; empty: ``prompt``, if there.
    """
    if MARK in row:
        return _written(row, place)
    chosen, rejected, prompt = row.get("chosen"), row.get("rejected"), row.get(prompt_key or "prompt")
    tools, tie = tools_column(row, place), is_tie(row, place)
    _refuse_contradicted(row, place, tie)
    if chosen is None or rejected is None:
        raise DataError(
            f"{place}: a pair needs columns chosen and rejected; columns present: {', '.join(row)}; fix: rename the "
            "column of the better answer to chosen and the other's to rejected"
        )
    if prompt_key and prompt is None:
        why = "is null" if prompt_key in row else "is missing"
        raise DataError(f"{place}: the column data.prompt_key={prompt_key} {why}; columns present: {', '.join(row)}")
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise DataError(f"{place}: chosen and rejected are not of one kind")
    chosen, rejected = (
        from_text(value, f"{place}: {name}") if isinstance(value, str) else value
        for name, value in (("chosen", chosen), ("rejected", rejected))
    )
    if isinstance(chosen, str) and prompt is not None and not (TURN.match(chosen) and TURN.match(str(rejected))):
        shared: tuple[Message, ...] = _asked(prompt, place)
        answers: tuple[Message | str, Message | str] = (chosen, str(rejected))
    else:
        first, second = _conversation(chosen, place, "chosen"), _conversation(rejected, place, "rejected")
        if first[:-1] != second[:-1]:
            return None
        shared = first[:-1] if prompt is None else _beginning(_asked(prompt, place), first[:-1], place)
        answers = (said(first[-1]), said(second[-1]))
    if not shared:
        raise DataError(f"{place}: there is no prompt: neither a column nor a message before the answer")
    shared = with_system(shared, row, place)
    chosen, rejected = answers
    return PairText(messages=shared, chosen=chosen, rejected=rejected, place=place, tools=tools, fields=row, tie=tie)


def _written(row: RawRow, place: str) -> PairText:
    """The pair of a row that a stage wrote: its ``meta`` has chosen and rejected. Raises DataError."""
    task = read_row(row, place)
    tie = is_tie(task.meta, place)
    _refuse_contradicted(task.meta, place, tie)
    answers = [task.meta.get(name) for name in ("chosen", "rejected")]
    for name, answer in zip(("chosen", "rejected"), answers, strict=True):
        if not isinstance(answer, str) and not (isinstance(answer, Mapping) and answer.get("role") == "assistant"):
            raise DataError(
                f"{place}: meta.{name} of a pair must be a text or an assistant's message, not {str(answer)[:60]!r}"
            )
    return PairText(
        messages=task.messages,
        chosen=answers[0],  # type: ignore[arg-type]
        rejected=answers[1],  # type: ignore[arg-type]
        place=place,
        tools=task.tools,
        fields=task.fields,
        domain=task.domain,
        tie=tie,
        complete=task.complete,
    )


def _refuse_contradicted(row: RawRow, place: str, tie: bool) -> None:
    """Raises DataError where the row's own scores prefer the rejected answer (equal ones prefer neither), or one of a
    tie.
    """
    for better, worse in SCORES:
        high, low = _number(row.get(better)), _number(row.get(worse))
        if high is None or low is None:
            continue
        if tie and low != high:
            raise DataError(
                f"{place}: the row says that neither answer is better, and {better}={high:g}, {worse}={low:g}; drop "
                "the row, its scores, or the column that calls it a tie"
            )
        if low > high:
            raise DataError(
                f"{place}: {worse}={low:g} is above {better}={high:g}, so the pair is turned round; swap chosen and "
                "rejected, drop the row, or drop the scores where less is better"
            )


def _number(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None  # a score in words orders nothing


def _conversation(value: Any, place: str, name: str) -> tuple[Message, ...]:
    messages = _dialogue(value, place) if isinstance(value, str) else messages_of(value, place, name)
    if messages[-1]["role"] != "assistant":
        raise DataError(f"{place}: {name} does not end with an answer of the assistant")
    return messages


def _asked(prompt: Any, place: str) -> tuple[Message, ...]:
    """The prompt's messages; a dialogue as text may end with ``Assistant:``, where the answers go on."""
    if not isinstance(prompt, str) or not TURN.match(prompt):
        return messages_of(prompt, place)
    messages = _dialogue(prompt, place)
    return messages[:-1] if messages[-1] == {"role": "assistant", "content": ""} else messages


def _beginning(prompt: tuple[Message, ...], shared: tuple[Message, ...], place: str) -> tuple[Message, ...]:
    """What the answers follow: the conversations' own beginning, which repeats the prompt or goes on from it."""
    if not shared or shared[0]["role"] == "assistant":
        return (*prompt, *shared)
    contents = [str(message["content"]).strip() for message in shared]
    if all(str(message["content"]).strip() in contents for message in prompt):
        return shared
    raise DataError(f"{place}: prompt and chosen begin differently; drop one, or make them say the same")


def _dialogue(text: str, place: str) -> tuple[Message, ...]:
    """hh-rlhf's ``\\n\\nHuman: ... \\n\\nAssistant: ...`` as messages; text before the first marker is dropped."""
    parts = TURN.split(text)
    messages = tuple(
        {"role": ROLES[speaker], "content": words.strip()}
        for speaker, words in zip(parts[1::2], parts[2::2], strict=True)
    )
    if not messages:
        raise DataError(
            f"{place}: no column 'prompt', and the texts have no turns marked '\\n\\nAssistant:'; fix: name the "
            "prompt's column with data.prompt_key"
        )
    return messages
