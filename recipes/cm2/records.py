"""An annotated dialogue -> the row of a run: the first user message, and what its environment knows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylign.actors.environments.checklist import CHECKLISTS
from raylign.actors.environments.users import MESSAGES
from raylign.actors.judge.checklist import read_checklists
from raylign.actors.tools.recorded import RECORDED
from raylign.contracts import RowGenerator
from raylign.data.files import read_rows
from raylign.data.rows import DataRow
from raylign.errors import DataError
from raylign.recipes.stages.demonstrations import DIALOGUE
from raylign.records import Message, content_id


class AnnotatedDialogues(RowGenerator):
    """Rows of a .jsonl or .parquet file in CM2's format.

    Batch: ``messages`` (system if any, user, assistant with ``tool_calls``, tool, …), ``tools`` (schemas, as lists or
    JSON text), ``checklist_list`` ([variant][turn][item], also within ``interaction_kwargs`` or
    ``extra_info.interaction_kwargs``), and if there ``original_index``. Raises DataError with place, item and field.
    """

    @dataclass
    class Config:
        """Which file."""

        path: str = ""

        def __post_init__(self) -> None:
            if not self.path:
                raise ValueError("path is empty: name the file of annotated dialogues")

    def __init__(self, config: Config) -> None:
        self.config = config

    def rows(self, size: int, seed: int) -> Iterator[DataRow]:
        """The first `size` dialogues of the file."""
        for number, (place, raw) in enumerate(read_rows(self.config.path)):
            if number == size:
                return
            yield dialogue_row(raw, place)


def dialogue_row(raw: Mapping[str, Any], place: str) -> DataRow:
    """One dialogue. Its demonstration is everything after the first user message."""
    extra = raw.get("extra_info") or raw
    messages = _parsed(extra.get("messages"), place, "messages")
    tools = _parsed(extra.get("tools") or [], place, "tools")
    annotation = extra.get("checklist_list", (extra.get("interaction_kwargs") or {}).get("checklist_list"))
    if annotation is None:
        raise DataError(f"{place}: no column checklist_list; columns present: {', '.join(map(str, extra))}")
    checklists = json.loads(annotation) if isinstance(annotation, str) else annotation
    lists = read_checklists(checklists, place)
    first = next((i for i, message in enumerate(messages) if message["role"] == "user"), None)
    if first is None:
        raise DataError(f"{place}: the dialogue has no user message")
    users = [str(message["content"]) for message in messages[first + 1 :] if message["role"] == "user"]
    if len(lists[0]) != len(users) + 1:
        raise DataError(f"{place}: {len(users) + 1} user messages, but checklists for {len(lists[0])} turns")
    return DataRow(
        messages=tuple(messages[: first + 1]),
        place=place,
        answer=content_id(json.dumps(checklists, sort_keys=True)),  # dialogues that begin alike are different tasks
        tools=tuple(tools),
        meta={
            MESSAGES: users,
            RECORDED: recorded_calls(messages, place),
            CHECKLISTS: checklists,
            DIALOGUE: [dict(message) for message in messages[first + 1 :]],
            "original_index": extra.get("original_index"),
        },
    )


def recorded_calls(messages: Sequence[Message], place: str) -> list[dict[str, Any]]:
    """Every call of the dialogue with its result. Raises DataError where calls and results do not match in number."""
    recorded: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        calls = message.get("tool_calls") or ()
        results = []
        for later in messages[index + 1 :]:
            if later["role"] != "tool":
                break
            results.append(later)
        if calls and len(calls) != len(results):
            raise DataError(f"{place}: message {index} makes {len(calls)} calls and gets {len(results)} results")
        for call, result in zip(calls, results if calls else (), strict=True):
            inner = call.get("function", call)
            arguments = inner.get("arguments") or {}
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
            recorded.append({"name": inner["name"], "arguments": arguments, "result": result["content"]})
    return recorded


def _parsed(raw: Any, place: str, name: str) -> list[Any]:
    try:
        values = json.loads(raw) if isinstance(raw, str) else raw
    except ValueError as error:
        raise DataError(f"{place}: column {name} is no JSON ({error})") from error
    if not isinstance(values, list | tuple):
        raise DataError(f"{place}: column {name} is a {type(values).__name__}, expected a list")
    return list(values)
