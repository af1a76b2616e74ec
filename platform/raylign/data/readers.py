"""Column conventions: rows as verl, TRL, OpenRLHF, verifiers and GSM8K write them -> neutral rows.

| format    | prompt                              | gold answer                                | the rest         |
|-----------|-------------------------------------|--------------------------------------------|------------------|
| gsm8k     | ``question``                        | ``answer`` after ``####``                  | meta             |
| verl      | ``prompt`` (messages)               | ``reward_model.ground_truth``              | ``data_source``  |
| verifiers | ``question``, ``problem``, ``prompt`` | ``answer``                               | ``info``, ``task`` |
| openrlhf  | ``input``                           | ``label`` if there                         | meta             |
| trl       | ``prompt``, or ``messages`` but the last | ``answer``, ``solution``, ``ground_truth`` | meta    |
| mbpp_plus | ``prompt`` (a docstring)            | ``canonical_solution``                     | tests: meta      |
| columns   | ``data.prompt_key``                 | ``data.answer_key`` if set                 | meta             |

A text to imitate (SFT) is TRL's ``completion`` or the last of its ``messages``, OpenRLHF's ``output``, GSM8K's whole
``answer``, and the named answer column of `columns`.

`data.prompt_key`, `data.answer_key` and `data.domain_key` override a format's own columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from raylign.data.files import RawRow, read_rows
from raylign.errors import DataError
from raylign.records import Message

GSM8K_MARK = "####"


class Format(Enum):
    """Column conventions that can be read."""

    auto = "auto"  # by the columns of the first row
    gsm8k = "gsm8k"
    verl = "verl"
    trl = "trl"
    openrlhf = "openrlhf"
    verifiers = "verifiers"
    mbpp_plus = "mbpp_plus"
    columns = "columns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One task, before any template or tokenizer.

    `fields` are what `data.template` may name. `place` is where the row came from, for messages.

    Example: ``Row(messages=({"role": "user", "content": "1+1?"},), answer="2", verifier="gsm8k", place="a.jsonl:1")``
    """

    messages: tuple[Message, ...]
    place: str
    answer: Any = None
    target: str | None = None  # a full gold completion, for SFT
    tools: tuple[Mapping[str, Any], ...] = ()  # schemas that the chat template renders
    verifier: str = ""
    domain: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Columns:
    """The raw row with the columns that were asked for, and errors that say where."""

    row: RawRow
    place: str
    prompt_key: str
    answer_key: str
    domain_key: str = ""

    def domain(self, own: str) -> str:
        """What stands at the named place (a dot enters a nested column), or the format's own domain without a name."""
        if not self.domain_key:
            return own
        found: Any = self.row
        for name in self.domain_key.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        if not isinstance(found, str) or not found:
            raise DataError(f"{self.place}: no text at data.domain_key={self.domain_key}")
        return found

    def need(self, *names: str) -> Any:
        """The first of these columns that is present and not null."""
        for name in names:
            if self.row.get(name) is not None:
                return self.row[name]
        wanted = " or ".join(repr(name) for name in names)
        raise DataError(f"{self.place}: no column {wanted}; columns present: {', '.join(map(str, self.row))}")

    def prompt(self, *names: str) -> Any:
        return self.need(self.prompt_key) if self.prompt_key else self.need(*names)

    def answer(self, *names: str, required: bool) -> Any:
        if self.answer_key:
            return self.need(self.answer_key)
        found = [self.row[name] for name in names if self.row.get(name) is not None]
        return self.need(*names) if required and not found else next(iter(found), None)


def load_rows(
    path: str | Path, format: str = "auto", prompt_key: str = "", answer_key: str = "", domain_key: str = ""
) -> tuple[Format, Iterator[Row]]:
    """The format that was used and the rows of the file.

    Raises DataError on an unknown format, and while iterating on anything wrong with the file or a row.
    """
    if format not in Format.__members__:
        raise DataError(f"data.format={format} is unknown; known are {', '.join(Format.__members__)}")
    source = read_rows(path)
    first = next(source)
    kind = Format[format]
    if kind is Format.auto:
        kind = detect(first[1], prompt_key, first[0])

    def rows() -> Iterator[Row]:
        for place, raw in (first, *source):
            yield _READERS[kind](_Columns(raw, place, prompt_key, answer_key, domain_key))

    return kind, rows()


def detect(row: RawRow, prompt_key: str, place: str) -> Format:
    """The convention that a row follows, by its columns. Raises DataError when none fits."""
    names = row.keys()
    question = bool({"question", "problem"} & names)
    candidates = (
        (Format.columns, bool(prompt_key)),
        (Format.verl, "prompt" in names and isinstance(row.get("reward_model"), Mapping)),
        (Format.mbpp_plus, {"entry_point", "canonical_solution", "base_input"} <= names),
        (Format.gsm8k, "question" in names and GSM8K_MARK in str(row.get("answer"))),
        (Format.verifiers, question and "answer" in names),
        (Format.verifiers, "prompt" in names and "answer" in names and bool({"info", "task"} & names)),
        (Format.trl, bool({"prompt", "messages"} & names)),
        (Format.openrlhf, "input" in names),
    )
    for kind, fits in candidates:
        if fits:
            return kind
    raise DataError(
        f"{place}: no known format has these columns: {', '.join(map(str, row))}; "
        "name them with data.prompt_key and data.answer_key"
    )


def messages_of(prompt: Any, place: str) -> tuple[Message, ...]:
    """A prompt column as chat messages: a text becomes one user message. Raises DataError when it is neither."""
    if isinstance(prompt, str):
        if not prompt.strip():
            raise DataError(f"{place}: the prompt is empty")
        return ({"role": "user", "content": prompt},)
    valid = isinstance(prompt, list | tuple) and all(
        isinstance(message, Mapping) and message.get("role") and message.get("content") is not None
        for message in prompt
    )
    if not valid or not prompt:
        raise DataError(f"{place}: the prompt must be a text or a list of {{role, content}}, not {str(prompt)[:80]!r}")
    # Parquet gives every struct all keys of the column, null where a row has none.
    return tuple({key: value for key, value in message.items() if value is not None} for message in prompt)


def gsm8k_answer(text: str, place: str) -> str:
    """What stands after the last ``####``, thousands separators removed. Raises DataError when nothing does."""
    _, mark, answer = str(text).rpartition(GSM8K_MARK)
    if not mark or not answer.strip():
        raise DataError(f"{place}: the answer has no '#### N' at its end: {str(text)[-60:]!r}")
    return answer.strip().replace(",", "")


def implied_verifier(source: str) -> str:
    """The verifier for a data set's name, as verl's ``data_source`` gives it."""
    source = source.lower()
    if "gsm8k" in source:
        return "gsm8k"
    return "boxed_math" if any(word in source for word in ("math", "aime", "amc", "olympiad")) else "exact"


def _row(columns: _Columns, prompt: Any, *used: str, **values: Any) -> Row:
    used = (*used, columns.prompt_key, columns.answer_key)
    extra = {str(name): value for name, value in columns.row.items() if name not in used}
    return Row(
        messages=messages_of(prompt, columns.place),
        place=columns.place,
        meta={**extra, **values.pop("meta", {})},
        fields=columns.row,
        domain=columns.domain(values.pop("domain", "")),
        **values,
    )


def _gsm8k(columns: _Columns) -> Row:
    target = str(columns.answer("answer", required=True))
    return _row(
        columns,
        columns.prompt("question"),
        "question",
        "answer",
        answer=gsm8k_answer(target, columns.place),
        target=target,
        verifier="gsm8k",
        domain="gsm8k",
    )


def _verl(columns: _Columns) -> Row:
    model = columns.row.get("reward_model")
    if not columns.answer_key and (not isinstance(model, Mapping) or model.get("ground_truth") is None):
        raise DataError(
            f"{columns.place}: no column 'reward_model.ground_truth'; columns present: {', '.join(columns.row)}"
        )
    source = str(columns.row.get("data_source") or "")
    return _row(
        columns,
        columns.prompt("prompt"),
        "prompt",
        "reward_model",
        "data_source",
        answer=columns.need(columns.answer_key) if columns.answer_key else model["ground_truth"],  # type: ignore[index]
        verifier=implied_verifier(source),
        domain=source,
    )


def _verifiers(columns: _Columns) -> Row:
    prompt = columns.prompt("prompt", "question", "problem")
    task = str(columns.row.get("task") or "")
    mathematics = "problem" in columns.row  # MATH, AIME and their kin name the column so
    return _row(
        columns,
        prompt,
        "prompt",
        "question",
        "problem",
        "answer",
        answer=columns.answer("answer", required=True),
        verifier="boxed_math" if mathematics else implied_verifier(task),
        domain=task,
    )


def _openrlhf(columns: _Columns) -> Row:
    answer = columns.answer("label", required=False)
    target = _completion(columns.row.get("output"), columns.place)
    used = ("input", "label", "output")
    return _row(columns, columns.prompt("input"), *used, answer=answer, target=target, verifier=_plain(answer))


def _trl(columns: _Columns) -> Row:
    answer = columns.answer("answer", "solution", "ground_truth", required=False)
    conversation = columns.row.get("messages")
    if conversation and columns.row.get("prompt") is None and not columns.prompt_key:
        *prompt, last = messages_of(conversation, columns.place)
        if last["role"] != "assistant" or not prompt:
            raise DataError(f"{columns.place}: messages must hold a prompt and end with an answer of the assistant")
        target: str | None = last["content"]
        return _row(columns, prompt, "messages", answer=answer, target=target, verifier=_plain(answer))
    target = _completion(columns.row.get("completion"), columns.place)
    prompt = columns.prompt("prompt")
    return _row(columns, prompt, "prompt", "completion", answer=answer, target=target, verifier=_plain(answer))


def _mbpp_plus(columns: _Columns) -> Row:
    """The tests stay in `meta`, prompt included: it shows how the row's own test compares."""
    solution = str(columns.answer("canonical_solution", required=True)).strip()
    text = str(columns.prompt("prompt")).strip().strip('"').strip()
    return _row(
        columns,
        f"{text}\n\nAnswer with one Python code block.",
        "canonical_solution",
        answer=solution,
        target=f"```python\n{solution}\n```",
        verifier="unit_tests",
        domain="code",
    )


def _named(columns: _Columns) -> Row:
    if not columns.prompt_key:
        raise DataError("data.format=columns needs data.prompt_key")
    answer = columns.answer(required=False)
    target = answer if isinstance(answer, str) else None
    return _row(columns, columns.prompt(), answer=answer, target=target, verifier=_plain(answer))


def _completion(value: Any, place: str) -> str | None:
    """A completion column as text: TRL writes a text, or a list with one message of the assistant."""
    if value is None or isinstance(value, str):
        return value
    messages = messages_of(value, place)
    if len(messages) != 1:
        raise DataError(f"{place}: a completion must be one message, found {len(messages)}")
    return str(messages[0]["content"])


def _plain(answer: Any) -> str:
    return "" if answer is None else "exact"


_READERS: Mapping[Format, Callable[[_Columns], Row]] = {
    Format.gsm8k: _gsm8k,
    Format.verl: _verl,
    Format.trl: _trl,
    Format.openrlhf: _openrlhf,
    Format.verifiers: _verifiers,
    Format.mbpp_plus: _mbpp_plus,
    Format.columns: _named,
}
