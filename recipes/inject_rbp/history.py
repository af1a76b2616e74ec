"""The traces that patterns are mined from: what is read of a row, and the file that keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from raylign.contracts import PlacedRow
from raylign.data.columns import Columns
from raylign.data.prompt_identity import question_id
from raylign.data.questions import question_of, said_instead
from raylign.errors import DataError
from raylign.recipes.inject_rbp.behaviours import BehaviourParser, checked_chain
from raylign.records import Prompt

NO_TOKENS = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One answer of the past. Example: ``Trace(family="algebra", asked="a1", bare="a1", chain="OPVC", score=1.0)``"""

    family: str
    asked: str  # identity of the question as it was read, see `names_of`
    bare: str  # the same without the template around it
    chain: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowColumns:
    """Where a row says what; a dot enters an object."""

    text: str
    chain: str  # empty: the text is parsed
    score: str
    family: str  # empty: all traces are one family
    question: str


def trace_of(row: PlacedRow, columns: RowColumns, parser: BehaviourParser) -> Trace | None:
    """The trace of a row; None where its score is absent. Raises DataError on what cannot be read, naming the place."""
    at = Columns(row.columns, row.place, "", "").at
    score = at(columns.score)
    if score is None:
        return None
    if not isinstance(score, bool | int | float):
        raise DataError(f"{row.place}: {columns.score} is no number, but {str(score)[:60]!r}; fix: set `score`")
    if columns.chain:
        chain = checked_chain(_text(at(columns.chain), columns.chain, row.place), row.place)
    else:
        chain = parser.chain(_text(at(columns.text), columns.text, row.place))
    family = at(columns.family) if columns.family else ""
    if not isinstance(family, str):
        raise DataError(f"{row.place}: {columns.family} is no text, but {str(family)[:60]!r}; fix: set `by`")
    asked, bare = names_of(_prompt(at(columns.question), row, columns.question))
    return Trace(family=family, asked=asked, bare=bare, chain=chain, score=float(score))


def names_of(prompt: Prompt) -> tuple[str, str]:
    """What a question is known by: as the model reads it, and without the template around it."""
    bare = said_instead(prompt, question_of(prompt))
    return tuple(question_id(each, prompt.meta, prompt.place) for each in (prompt.messages, bare))  # type: ignore[return-value]


def asked_before(prompts: Sequence[Prompt], traces: Iterable[Trace]) -> list[Prompt]:
    """The prompts whose question is one of the traces', in whatever form."""
    known = [(trace.asked, trace.bare) for trace in traces]
    read = {asked for asked, _ in known}
    either = read | {bare for _, bare in known}
    names = [(prompt, *names_of(prompt)) for prompt in prompts]
    return [prompt for prompt, asked, bare in names if asked in either or bare in read]


def write_traces(path: Path, traces: Sequence[Trace]) -> None:
    """One a line."""
    path.write_bytes(b"".join(orjson.dumps(asdict(trace)) + b"\n" for trace in traces))


def read_traces(path: Path) -> list[Trace]:
    """What `write_traces` wrote. Raises DataError on anything else."""
    try:
        lines: list[dict[str, Any]] = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        traces = [Trace(**line) for line in lines]
    except (OSError, ValueError, TypeError) as cause:
        raise DataError(
            f"{path.parent} holds no pattern table: {cause}; fix: name the folder that a Fit of PatternTable left"
        ) from cause
    for number, trace in enumerate(traces, 1):
        checked_chain(trace.chain, f"{path}:{number}")
    return traces


def _text(value: object, column: str, place: str) -> str:
    text = value.get("content") if isinstance(value, Mapping) else value
    if not isinstance(text, str):
        raise DataError(
            f"{place}: no text at {column}, but {str(value)[:60]!r}; fix: set `text` to the column of the answers"
        )
    return text


def _prompt(value: object, row: PlacedRow, column: str) -> Prompt:
    """The question of a row as a prompt, whose identity can be asked."""
    messages = ({"role": "user", "content": value},) if isinstance(value, str) else value
    if not isinstance(messages, list | tuple) or not messages:
        raise DataError(
            f"{row.place}: no question at {column}, but {str(value)[:60]!r}; fix: set `question` to its column, so "
            "that it is known which questions must not be evaluated on"
        )
    meta = row.columns.get("meta")
    return Prompt(
        id=row.place,
        messages=tuple(messages),
        token_ids=NO_TOKENS,
        meta=meta if isinstance(meta, Mapping) else {},
        place=row.place,
    )
