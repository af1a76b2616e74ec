"""Rows -> which answers to one question are better than which, and which are as good."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from raylign.contracts import PlacedRow
from raylign.data.columns import Columns
from raylign.data.messages import messages_of
from raylign.data.ties import is_tie
from raylign.errors import DataError


@dataclass
class RowColumns:
    """Where a row says what; a dot enters an object.

    A row with both `chosen` and `rejected` is a comparison, or a tie (`raylign.data.ties`). Any other is an answer with
    its grade, the sum of the columns `grade`, each times its number in `weights`; answers to the same question, all
    its messages the same, are compared. Rows that lack one of the columns `grade` are left out, and counted.
    """

    question: str = "messages"  # a text, or messages, of which the last of a user is read
    answer: str = "target"  # a text, a message, or messages that end with it; as are `chosen` and `rejected`
    grade: list[str] = field(default_factory=lambda: ["meta.generated.score"])
    weights: list[float] = field(default_factory=list)  # one for each of `grade`; empty: 1
    chosen: str = "chosen"
    rejected: str = "rejected"
    same: float = 1e-9  # grades that are no farther apart are a tie

    def __post_init__(self) -> None:
        if self.weights and len(self.weights) != len(self.grade):
            raise ValueError(f"weights={self.weights} has no number for each of grade={self.grade}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """Answers by number, and pairs of numbers."""

    questions: Sequence[str]
    answers: Sequence[str]
    pairs: Sequence[tuple[int, int]]  # the better one first
    ties: Sequence[tuple[int, int]]
    ungraded: int  # rows that lack a grade


def comparisons_of(rows: Sequence[PlacedRow], columns: RowColumns) -> Comparisons:
    """All comparisons of some rows, in their order. Raises DataError, naming the place, on what cannot be read."""
    questions, answers, grades = list[str](), list[str](), dict[bytes, list[tuple[int, float]]]()
    pairs, ties, ungraded = list[tuple[int, int]](), list[tuple[int, int]](), 0
    for row in rows:
        at = Columns(row.columns, row.place, "", "").at
        question = _text(at(columns.question), columns.question, row.place)
        chosen, rejected = at(columns.chosen), at(columns.rejected)
        if chosen is not None and rejected is not None:
            (ties if is_tie(row.columns, row.place) else pairs).append((len(answers), len(answers) + 1))
            questions += [question] * 2
            answers += [_answer(chosen, columns.chosen, row.place), _answer(rejected, columns.rejected, row.place)]
        elif (grade := _grade(at, columns, row.place)) is not None:
            grades.setdefault(_conversation(at(columns.question)), []).append((len(answers), grade))
            questions.append(question)
            answers.append(_answer(at(columns.answer), columns.answer, row.place))
        else:
            ungraded += 1
    for graded in grades.values():
        for number, (one, its) in enumerate(graded):
            for other, theirs in graded[:number]:
                if abs(its - theirs) <= columns.same:
                    ties.append((other, one))
                else:
                    pairs.append((one, other) if its > theirs else (other, one))
    return Comparisons(questions=questions, answers=answers, pairs=pairs, ties=ties, ungraded=ungraded)


def _grade(at: Callable[[str], object], columns: RowColumns, place: str) -> float | None:
    """The sum; None where a column is absent. Raises DataError on what is no finite number."""
    total = 0.0
    for name, weight in zip(columns.grade, columns.weights or [1.0] * len(columns.grade), strict=True):
        value = at(name)
        if value is None:
            return None
        if not isinstance(value, bool | int | float):
            raise DataError(f"{place}: {name} is no number, but {str(value)[:60]!r}; fix: set columns.grade")
        if not math.isfinite(value):
            fix = "fix: give a finite number, or null to leave the row out"
            raise DataError(f"{place}: {name} is {value}, which orders no answers; {fix}")
        total += weight * float(value)
    return total


def _conversation(asked: object) -> bytes:
    """What tells questions apart: all messages by who says what, or the text."""
    if isinstance(asked, list | tuple):
        asked = [
            [message.get("role"), message.get("content")] if isinstance(message, Mapping) else message
            for message in asked
        ]
    return orjson.dumps(asked, default=str)


def _answer(value: object, column: str, place: str) -> str:
    """A text, or that of the assistant's message with which a conversation ends."""
    if isinstance(value, list | tuple):
        *_, last = messages_of(value, place, column)
        value = last if last["role"] == "assistant" else None
    return _text(value, column, place)


def _text(value: object, column: str, place: str) -> str:
    """A text, a message's, or that of the last message of a user."""
    if isinstance(value, list | tuple):
        said = [message for message in messages_of(value, place, column) if message["role"] == "user"]
        value = said[-1] if said else None
    text = value.get("content") if isinstance(value, Mapping) else value
    if not isinstance(text, str):
        raise DataError(f"{place}: no text at {column}, but {str(value)[:60]!r}; fix: set columns")
    return text
