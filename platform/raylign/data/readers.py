"""Column conventions: rows as verl, TRL, OpenRLHF, verifiers and GSM8K write them -> neutral rows.

| format    | prompt                              | gold answer                                | the rest         |
|-----------|-------------------------------------|--------------------------------------------|------------------|
| gsm8k     | ``question``                        | ``answer`` after ``####``                  | meta             |
| verl      | ``prompt`` (messages)               | ``reward_model.ground_truth``              | ``data_source``  |
| verifiers | ``question``, ``problem``, ``prompt`` | ``answer``, ``final_answer``, ``solution`` | ``info``, ``task`` |
| openrlhf  | ``input``                           | ``label`` if there                         | meta             |
| trl       | ``prompt``, or ``messages`` but the last | ``answer``, ``solution``, ``ground_truth`` | meta    |
| alpaca    | ``instruction`` and ``input``       | none                                       | meta             |
| mbpp_plus | ``prompt`` (a docstring)            | ``canonical_solution``                     | tests: meta      |
| columns   | ``data.prompt_key``                 | ``data.answer_key`` if set                 | meta             |

What is to be imitated (SFT) is TRL's ``completion`` or the last of its ``messages`` (ShareGPT: ``conversations``),
OpenRLHF's and Alpaca's ``output``, GSM8K's whole ``answer``, and the named answer column of `columns`. Of every format
``tools`` (or ``functions``) are the row's tools, and ``system`` is its system message. Columns of pictures, films and
sound are refused. How messages are read is told in `messages`, which verifier the answers imply in `answers`.

`data.prompt_key`, `data.answer_key` and `data.domain_key` override a format's own columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from raylign.data.answers import GSM8K_MARK, Implied, from_json, implied, plain, whole_numbers
from raylign.data.files import RawRow, read_rows
from raylign.data.messages import answer_of, messages_of, refuse_media, said, tools_of
from raylign.errors import DataError
from raylign.records import Message

TEMPLATE_ARGUMENTS = ("chat_template_kwargs", "enable_thinking")  # columns that TRL and verl read
CONVERSATIONS = ("messages", "conversations", "conversation")
JUDGED = ("gsm8k", "boxed_math", "exact")  # verifiers that take a text, a number, or a list of them


class Format(Enum):
    """Column conventions that can be read."""

    auto = "auto"  # by the columns of the first row
    gsm8k = "gsm8k"
    verl = "verl"
    trl = "trl"
    openrlhf = "openrlhf"
    verifiers = "verifiers"
    alpaca = "alpaca"
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
    target: Message | str | None = None  # a full gold completion, for SFT; a text: what the assistant says
    tools: tuple[Mapping[str, Any], ...] = ()  # schemas that the chat template renders
    verifier: str = ""
    doubt: str = ""  # why no verifier can judge the answer, or none follows from it; a run that needs one refuses
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

    def need(self, *names: str, what: str = "") -> Any:
        """The first of these columns that is present and not null."""
        for name in names:
            if self.row.get(name) is not None:
                return self.row[name]
        for name in names:
            if name in self.row:
                raise DataError(f"{self.place}: the {what or name} is null (column {name!r})")
        wanted = " or ".join(repr(name) for name in names)
        raise DataError(f"{self.place}: no column {wanted}; columns present: {', '.join(map(str, self.row))}")

    def prompt(self, *names: str) -> Any:
        return self.need(self.prompt_key, what="prompt") if self.prompt_key else self.need(*names, what="prompt")

    def answer(self, *names: str, required: bool) -> Any:
        if self.answer_key:
            return self.need(self.answer_key)
        found = [self.row[name] for name in names if self.row.get(name) is not None]
        return self.need(*names) if required and not found else next(iter(found), None)


def load_rows(
    path: str | Path,
    format: str = "auto",
    prompt_key: str = "",
    answer_key: str = "",
    domain_key: str = "",
    *,
    verifier: str = "",
) -> tuple[Format, Iterator[Row]]:
    """The format that was used and the rows of the file. verifier: of every row; empty: what the rows imply.

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
        read = (
            _READERS[kind](_Columns(raw, place, prompt_key, answer_key, domain_key)) for place, raw in (first, *source)
        )
        yield from with_verifiers(list(read), verifier)

    return kind, rows()


def with_verifiers(rows: Sequence[Row], verifier: str = "") -> Iterator[Row]:
    """The rows with plain answers and the verifier that is named, that their format implies, or that the answers of
    their domain imply together."""
    answers = [plain(row.answer) for row in rows]
    integers = whole_numbers([answer for answer, _ in answers])
    domains: dict[str, list[int]] = defaultdict(list)
    for index, (answer, why) in enumerate(answers):
        if answer is not None and not why and not rows[index].verifier:
            domains[rows[index].domain].append(index)
    guesses = {
        domain: implied((answers[i][0] for i in own), (str(rows[i].messages) for i in own))
        for domain, own in domains.items()
    }
    answered = any(answer is not None for answer, _ in answers)
    for row, (given, why) in zip(rows, answers, strict=True):
        guess = guesses.get(row.domain, Implied())
        name = verifier or row.verifier or guess.verifier
        answer = int(given) if integers and isinstance(given, float) else given
        if name in ("gsm8k", "boxed_math"):
            answer = from_json(answer)
        if name == "gsm8k" and isinstance(answer, str) and GSM8K_MARK in answer:
            answer = gsm8k_answer(answer, row.place)
        missing = answer is None and answered
        doubt = guess.doubt if not name and answer is not None else ""
        if missing:
            doubt = "the answer is null; drop the row or name another column with data.answer_key"
        elif why and (name in JUDGED or not name):
            doubt = (
                f"the answer is {why}, and a verifier takes a text, a number or a list of them; name another column "
                "with data.answer_key, or a reward of your own"
            )
        yield replace(
            row, answer=answer, verifier="" if missing else name, doubt=f"{row.place}: {doubt}" if doubt else ""
        )


def detect(row: RawRow, prompt_key: str, place: str) -> Format:
    """The convention that a row follows, by its columns. Raises DataError when none fits."""
    names = row.keys()
    question = bool({"question", "problem", "Question", "Problem"} & names)
    candidates = (
        (Format.columns, bool(prompt_key)),
        (Format.verl, "prompt" in names and isinstance(row.get("reward_model"), Mapping)),
        (Format.mbpp_plus, {"entry_point", "canonical_solution", "base_input"} <= names),
        (Format.gsm8k, "question" in names and GSM8K_MARK in str(row.get("answer"))),
        (Format.verifiers, question and bool({"answer", "final_answer", "Answer", "solution"} & names)),
        (Format.verifiers, "prompt" in names and "answer" in names and bool({"info", "task"} & names)),
        (Format.trl, bool({"prompt", *CONVERSATIONS} & names)),
        (Format.alpaca, "instruction" in names),
        (Format.openrlhf, "input" in names),
    )
    for kind, fits in candidates:
        if fits:
            return kind
    raise DataError(
        f"{place}: no known format has these columns: {', '.join(map(str, row))}; "
        "name them with data.prompt_key and data.answer_key"
    )


def gsm8k_answer(text: str, place: str) -> str:
    """What stands after the last ``####``, thousands separators removed. Raises DataError when nothing does."""
    _, mark, answer = str(text).rpartition(GSM8K_MARK)
    if not mark or not answer.strip():
        raise DataError(f"{place}: the answer has no '#### N' at its end: {str(text)[-60:]!r}")
    return answer.strip().replace(",", "")


def implied_verifier(source: str) -> str:
    """The verifier for a data set's name, as verl's ``data_source`` gives it; empty when the name says nothing."""
    source = source.lower()
    if "gsm8k" in source:
        return "gsm8k"
    mathematical = ("math", "aime", "amc", "olympiad", "minerva", "gaokao", "deepscaler", "numina")
    return "boxed_math" if any(word in source for word in mathematical) else ""


def with_system(messages: Sequence[Message], row: RawRow, place: str) -> tuple[Message, ...]:
    """The messages after the row's ``system`` column, if it has one. Raises DataError when the two say different."""
    for name in ("system", "system_prompt"):
        system = row.get(name)
        if system is None or system == "":
            continue
        if not isinstance(system, str):
            raise DataError(f"{place}: column {name!r} must be a text, not {str(system)[:60]!r}")
        own = [message["content"] for message in messages if message["role"] == "system"]
        if own and own != [system]:
            raise DataError(f"{place}: column {name!r} and the conversation's own system message differ; keep one")
        return tuple(messages) if own else ({"role": "system", "content": system}, *messages)
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


def _row(columns: _Columns, prompt: Any, *used: str, **values: Any) -> Row:
    used = (*used, columns.prompt_key, columns.answer_key, "tools", "functions", "system", "system_prompt")
    row, place = columns.row, columns.place
    extra = {str(name): value for name, value in row.items() if name not in used}
    return Row(
        messages=with_system(messages_of(prompt, place), row, place),
        place=place,
        tools=tools_column(row, place),
        meta={**extra, **values.pop("meta", {})},
        fields=row,
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
    prompt = columns.prompt("prompt", "question", "problem", "Question", "Problem")
    task = str(columns.row.get("task") or "")
    answer = columns.answer("answer", "final_answer", "Answer", "solution", required=True)
    # MATH, AIME and their kin name the column so; a worked solution without a box is no answer
    worked = answer is columns.row.get("solution") and "\\boxed" not in str(answer)
    mathematics = bool({"problem", "Problem"} & columns.row.keys()) and not worked
    if columns.row.get("final_answer") is not None and isinstance(columns.row.get("solution"), list):  # OlympiadBench
        mathematics = True
        if columns.row.get("context"):
            prompt = f"{columns.row['context']}\n{prompt}"
    if columns.row.get("is_multiple_answer") and isinstance(answer, list | tuple):  # all of them, in any order
        answer = ", ".join(str(one).strip().strip("$").strip() for one in answer)
    return _row(
        columns,
        prompt,
        *("prompt", "question", "problem", "Question", "Problem", "answer", "final_answer", "Answer"),
        answer=answer,
        verifier="boxed_math" if mathematics else implied_verifier(task),
        domain=task,
    )


def _openrlhf(columns: _Columns) -> Row:
    answer = columns.answer("label", required=False)
    target = answer_of(columns.row.get("output"), columns.place, "the output")
    return _row(columns, columns.prompt("input"), "input", "label", "output", answer=answer, target=target)


def _alpaca(columns: _Columns) -> Row:
    """The instruction, and below it the input where there is one."""
    asked, place = str(columns.prompt("instruction")), columns.place
    if columns.row.get("history") or (columns.row.get("input") and columns.row.get("context")):
        raise DataError(f"{place}: a history, or input and context both, are not read; write messages")
    more = columns.row.get("input") or columns.row.get("context") or ""
    target = answer_of(columns.need("output", "response"), place, "the output")
    used = ("instruction", "input", "context", "output", "response", "history")
    return _row(columns, f"{asked}\n\n{more}" if more else asked, *used, target=target)


def _trl(columns: _Columns) -> Row:
    answer, place = columns.answer("answer", "solution", "ground_truth", required=False), columns.place
    name = next((name for name in CONVERSATIONS if columns.row.get(name) is not None), "")
    if name and columns.row.get("prompt") is None and not columns.prompt_key:
        conversation = messages_of(columns.row[name], place, f"column {name!r}")
        *prompt, last = conversation
        if last["role"] == "assistant" and prompt:
            return _row(columns, prompt, name, answer=answer, target=said(last))
        if last["role"] == "assistant" or answer is None:
            raise DataError(
                f"{place}: {name} must hold a prompt and end with an answer of the assistant; where they are prompts "
                f"alone, set data.format=columns data.prompt_key={name}"
            )
        return _row(columns, conversation, name, answer=answer)
    if name and not columns.prompt_key and columns.row.get("completion") is None:
        said_here = [message["content"] for message in messages_of(columns.row[name], place, f"column {name!r}")]
        if messages_of(columns.row["prompt"], place)[-1]["content"] not in said_here:
            raise DataError(f"{place}: prompt and {name} say different things; drop one, or set data.prompt_key")
        return _trl(replace(columns, row={key: value for key, value in columns.row.items() if key != "prompt"}))
    prompt = columns.prompt("prompt")
    target = answer_of(columns.row.get("completion"), place)
    if target is not None and columns.row.get("label") is False:
        raise DataError(f"{place}: label=false (KTO) says that the completion is not to be imitated; drop the row")
    return _row(columns, prompt, "prompt", "completion", answer=answer, target=target)


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
    return _row(columns, columns.prompt(), answer=answer, target=target)


_READERS: Mapping[Format, Callable[[_Columns], Row]] = {
    Format.gsm8k: _gsm8k,
    Format.verl: _verl,
    Format.trl: _trl,
    Format.openrlhf: _openrlhf,
    Format.verifiers: _verifiers,
    Format.alpaca: _alpaca,
    Format.mbpp_plus: _mbpp_plus,
    Format.columns: _named,
}
