"""`data.template` and `data.system`: what a run says around every prompt, of rows and of preference pairs alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from string import Formatter
from typing import Any

from raylign.errors import DataError
from raylign.records import Message

MATERIAL = ("context", "contexts", "passage", "choices", "options")  # columns without which a question makes no sense


class _Texts(Formatter):
    """Formats texts and numbers; what would be written in Python's own spelling is a ValueError."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
        """The value behind a name."""
        value, first = super().get_field(field_name, args, kwargs)
        if not isinstance(value, str | int | float):
            kind = "null" if value is None else f"a {type(value).__name__}, not a text"
            raise ValueError(f"{field_name} is {kind}")
        return value, first


def filled(
    messages: Sequence[Message], template: str, system: str, fields: Mapping[str, Any], place: str
) -> tuple[Message, ...]:
    """The messages with the template around the last user message and the system message in front.

    fields: what the template may name beside ``{prompt}``. Raises DataError where it cannot be filled, and where the
    row brings material for its question that no message shows.
    """
    asked = list(messages)
    if template:
        users = [index for index, message in enumerate(asked) if message["role"] == "user"]
        if not users:
            raise DataError(f"{place}: the template needs a user message")
        known = {**fields, "prompt": asked[users[-1]]["content"]}
        try:
            text = _Texts().vformat(template, (), known)
        except (KeyError, IndexError, AttributeError, ValueError, TypeError) as error:
            raise DataError(
                f"{place}: the template {template!r} cannot be filled ({error!r}); fields: {', '.join(map(str, known))}"
            ) from error
        asked[users[-1]] = {**asked[users[-1]], "content": text}
    if system:
        asked = [{"role": "system", "content": system}, *(message for message in asked if message["role"] != "system")]
    _refuse_hidden(asked, fields, place)
    return tuple(asked)


def _refuse_hidden(asked: Sequence[Message], fields: Mapping[str, Any], place: str) -> None:
    shown = "\n".join(str(message.get("content") or "") for message in asked)
    for name in MATERIAL:
        if any(text not in shown for text in _texts(fields.get(name))):
            raise DataError(
                f"{place}: the column {name!r} stands in no message, so that the model would not see it; name it in "
                f"data.template (a list by {{{name}[0]}}, ...), or drop the column"
            )


def _texts(value: Any) -> Iterator[str]:
    """The texts of a column at any depth."""
    if isinstance(value, str) and value.strip():
        yield value.strip()
    elif isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)
