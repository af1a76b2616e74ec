"""The columns of a raw row, with errors that say where, and the row that a convention of columns makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylign.data.files import RawRow
from raylign.data.messages import messages_of, refuse_media, tools_of
from raylign.data.rows import DataRow
from raylign.data.strict_json import parse
from raylign.errors import DataError
from raylign.records import Message

TEMPLATE_ARGUMENTS = ("chat_template_kwargs", "enable_thinking")  # columns that TRL and verl read


@dataclass(frozen=True, slots=True)
class Columns:
    """The raw row with the columns that were asked for, and errors that say where."""

    row: RawRow
    place: str
    prompt_key: str
    answer_key: str
    domain_key: str = ""

    def domain(self, default: str) -> str:
        """The text at the named place (a dot enters a nested column), or the format's own domain without a name."""
        if not self.domain_key:
            return default
        text = self.at(self.domain_key)
        if not isinstance(text, str) or not text:
            raise DataError(f"{self.place}: no text at data.domain_key={self.domain_key}")
        return text

    def need(self, *names: str, what: str = "") -> Any:
        """The first of these columns that is present and not null."""
        for name in names:
            if (value := self.at(name)) is not None:
                return value
        for name in names:
            if name in self.row:
                raise DataError(f"{self.place}: the {what or name} is null (column {name!r})")
        wanted = " or ".join(repr(name) for name in names)
        raise DataError(f"{self.place}: no column {wanted}; columns present: {', '.join(map(str, self.row))}")

    def at(self, path: str) -> Any:
        """The value at a named place: a column, or a key inside an object or its JSON text; None if absent.

        Example: ``reward_model.ground_truth``
        """
        if path in self.row or "." not in path:
            return self.row.get(path)
        value: Any = self.row
        for number, name in enumerate(path.split(".")):
            value = self.object_at(value, path) if number else value
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def object_at(self, value: Any, name: str) -> Any:
        """An object that a column holds as JSON text, read; anything else as it is. Raises DataError on broken JSON."""
        if isinstance(value, str) and value.lstrip()[:1] == "{":
            return parse(value, f"{self.place}: {name} as JSON text")
        return value

    def prompt(self, *names: str) -> Any:
        """The prompt: the column that the settings name, else the first of these."""
        return self.need(self.prompt_key, what="prompt") if self.prompt_key else self.need(*names, what="prompt")

    def answer(self, *names: str, required: bool) -> Any:
        """The gold answer: at the place that the settings name, else the first of these columns, else None."""
        if self.answer_key:
            return self.need(self.answer_key)
        answers = [self.row[name] for name in names if self.row.get(name) is not None]
        return self.need(*names) if required and not answers else next(iter(answers), None)


def row_of(columns: Columns, prompt: Any, *used: str, **values: Any) -> DataRow:
    """The row of these columns. used: columns that are not left for `meta`; values: the row's other fields."""
    used = (*used, columns.prompt_key, columns.answer_key, "tools", "functions", "system", "system_prompt")
    row, place = columns.row, columns.place
    extra = {str(name): value for name, value in row.items() if name not in used}
    return DataRow(
        messages=with_system(messages_of(prompt, place), row, place),
        place=place,
        tools=tools_column(row, place),
        meta={**extra, **values.pop("meta", {})},
        fields=row,
        domain=columns.domain(values.pop("domain", "")),
        **values,
    )


def with_system(messages: Sequence[Message], row: RawRow, place: str) -> tuple[Message, ...]:
    """The messages after the row's ``system`` column, if it has one. Raises DataError when the two say different."""
    for name in ("system", "system_prompt"):
        system = row.get(name)
        if system is None or system == "":
            continue
        if not isinstance(system, str):
            raise DataError(f"{place}: column {name!r} must be a text, not {str(system)[:60]!r}")
        system_texts = [message["content"] for message in messages if message["role"] == "system"]
        if system_texts and system_texts != [system]:
            raise DataError(f"{place}: column {name!r} and the conversation's own system message differ; keep one")
        return tuple(messages) if system_texts else ({"role": "system", "content": system}, *messages)
    return tuple(messages)


def tools_column(row: RawRow, place: str) -> tuple[Mapping[str, Any], ...]:
    """The row's tools. Raises DataError on a column that is no list of schemas, and on what no reader honours."""
    refuse_media(row, place)
    for name in TEMPLATE_ARGUMENTS:
        if row.get(name) not in (None, {}):
            raise DataError(f"{place}: {name} of single rows is not honoured; set model.template_args for the run")
    both = [name for name in ("tools", "functions") if row.get(name)]
    if len(both) > 1:
        raise DataError(f"{place}: both tools and functions; keep one")
    return tools_of(row[both[0]], place) if both else ()
