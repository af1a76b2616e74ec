"""One task as every reader gives it, and the file of tasks that a stage writes and every reader takes.

A row of the file is one JSON object on a line; reading gives back the row that was written (`exact_json`):

| key                | what it holds                                                                     |
|--------------------|-----------------------------------------------------------------------------------|
| ``raylign``        | 1, the version of the form; by it a reader knows the file, whatever `data.format` |
| ``messages``       | the conversation so far: objects with ``role`` and ``content``                    |
| ``verifier``       | how the answer is judged; ``""``: by no verifier                                  |
| ``answer``         | the gold answer; absent: none                                                     |
| ``target``         | what SFT imitates: a text, or an assistant's message; absent: nothing             |
| ``domain``         | routes rewards, teachers and metrics                                              |
| ``tools``          | schemas that the chat template renders                                            |
| ``meta``           | all other columns; of a preference pair ``chosen`` and ``rejected``               |
| ``complete``       | true: `data.template` and `data.system` do not go around the messages             |
| ``doubt, fields``  | see `DataRow`                                                                     |

``raylign``, ``messages`` and ``verifier`` must be there, and no key that is none of these.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raylign.data.exact_json import dumps, restored
from raylign.data.strict_json import parse
from raylign.errors import DataError, said_of
from raylign.records import Message

MARK, VERSION = "raylign", 1
ROLES = ("system", "user", "assistant", "tool")
KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {  # key -> its type, and the type in words
    "messages": (list, "a list of messages"),
    "verifier": (str, "a text"),
    "target": ((str, Mapping), "a text or an assistant's message"),
    "domain": (str, "a text"),
    "tools": (list, "a list of schemas"),
    "meta": (Mapping, "an object"),
    "complete": (bool, "true or false"),
    "doubt": (str, "a text"),
    "fields": (Mapping, "an object"),
}
NEEDED = (MARK, "messages", "verifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRow:
    """One task, before any template or tokenizer. Two rows are equal wherever they come from.

    `fields` are what `data.template` may name. `place` is where the row came from, for messages.

    Example: ``DataRow(messages=({"role": "user", "content": "1+1?"},), answer="2", place="a.jsonl:1")``
    """

    messages: tuple[Message, ...]
    place: str = field(compare=False)
    answer: Any = None
    target: Message | str | None = None  # a full gold completion, for SFT; a text: what the assistant says
    tools: tuple[Mapping[str, Any], ...] = ()  # schemas that the chat template renders
    verifier: str = ""
    doubt: str = ""  # why no verifier can judge the answer, or none follows from it; a run that needs one refuses
    domain: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = False  # the messages are what a model is to read: `data.template` and `data.system` stay away


def write_rows(path: Path | str, rows: Iterable[DataRow]) -> int:
    """Write the rows as a file for `data.path`, and count them. The file is there whole or not at all.

    Raises DataError on a name that does not end in .jsonl, without a row, on a row that would not be read back as it
    is, and where the file cannot be written.
    """
    path, count = Path(path), 0
    if path.suffix != ".jsonl":
        raise DataError(f"{path}: readers know a file of rows by its name; fix: let it end in .jsonl")
    staging = path.with_name(f".writing-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with staging.open("wb") as file:
                for count, row in enumerate(rows, 1):
                    file.write(line_of(row, count))
                file.flush()
                os.fsync(file.fileno())
            if not count:
                raise DataError(f"{path}: there is no row to write")
            staging.replace(path)
        finally:
            staging.unlink(missing_ok=True)
    except OSError as error:
        why = said_of(error) or f"{error.filename or path}: {error.strerror or error}"
        raise DataError(f"{why}; {path} is not written") from error
    return count


def line_of(row: DataRow, number: int = 1) -> bytes:
    """One line of the file. number: of the row, for messages. Raises DataError."""
    place = f"row {number}" + (f" (of {row.place})" if row.place else "")
    raw: dict[str, Any] = {MARK: VERSION, "messages": list(row.messages), "verifier": row.verifier}
    rest = {
        "answer": row.answer,
        "target": row.target,
        "domain": row.domain,
        "tools": list(row.tools),
        "meta": row.meta,
        "complete": row.complete,
        "doubt": row.doubt,
        "fields": row.fields,
    }
    raw |= {name: value for name, value in rest.items() if value is not None and not _absent(name, value)}
    text = dumps(raw, place)
    read_row(parse(text, place), place)
    return f"{text}\n".encode()


def read_row(raw: Mapping[str, Any], place: str) -> DataRow:
    """The row of one line. Raises DataError on what is none, naming the key."""
    if raw.get(MARK) != VERSION:
        raise DataError(
            f"{place}: {MARK}={raw.get(MARK)!r} is no row of version {VERSION}; fix: write the file anew with this "
            "version of raylign, and do not join files of different kinds"
        )
    known = (MARK, "answer", *KINDS)
    if unknown := [name for name in raw if name not in known]:
        raise DataError(f"{place}: the key {unknown[0]!r} is none of {', '.join(known)}; fix: put it into meta")
    if missing := [name for name in NEEDED if name not in raw]:
        raise DataError(f"{place}: no key {missing[0]!r}, which every row of this form has")
    try:
        values: dict[str, Any] = {name: restored(value) for name, value in raw.items() if name != MARK}
    except (ValueError, TypeError) as error:
        raise DataError(f"{place}: holds a value that was written otherwise than raylign does ({error})") from error
    for name, (kind, words) in KINDS.items():
        if name in values and not isinstance(values[name], kind):
            raise DataError(f"{place}: {name} must be {words}, not {str(values[name])[:60]!r}")
    _check_messages(values["messages"], f"{place}: messages")
    if isinstance(target := values.get("target"), Mapping):
        _check_messages([target], f"{place}: target", ("assistant",))
    if not all(isinstance(tool, Mapping) for tool in values.get("tools", ())):
        raise DataError(f"{place}: tools must be objects, JSON schemas with a name")
    values |= {name: tuple(values[name]) for name in ("messages", "tools") if name in values}
    return DataRow(**values, place=place)


def _absent(name: str, value: Any) -> bool:
    """Whether a key may stay away, since reading gives its value without it."""
    return name not in ("answer", "target") and not value


def _check_messages(messages: list[Any], place: str, roles: tuple[str, ...] = ROLES) -> None:
    for message in messages:
        if not isinstance(message, Mapping) or message.get("role") not in roles:
            raise DataError(f"{place}: {str(message)[:60]!r} is no message with the role {', '.join(roles)}")
        if "content" not in message and not message.get("tool_calls"):
            raise DataError(f"{place}: the message of the {message['role']} says nothing: no content, no tool_calls")
    if not messages:
        raise DataError(f"{place}: holds none")
