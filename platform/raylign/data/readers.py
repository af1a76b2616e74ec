"""Column conventions: rows as verl, TRL, OpenRLHF, verifiers and GSM8K write them -> neutral rows.

| format    | prompt                              | gold answer                                | the rest         |
|-----------|-------------------------------------|--------------------------------------------|------------------|
| gsm8k     | ``question``                        | ``answer`` after ``####``                  | meta             |
| verl      | ``prompt`` (messages)               | ``reward_model.ground_truth`` (also JSON)  | ``data_source``  |
| verifiers | ``question``, ``problem``, ``prompt`` | ``answer``, ``final_answer``, ``solution`` | ``info``, ``task`` |
| openrlhf  | ``input``                           | ``label`` if there                         | meta             |
| trl       | ``prompt``, or ``messages`` but the last | ``answer``, ``solution``, ``ground_truth`` | meta    |
| alpaca    | ``instruction`` and ``input``       | none                                       | meta             |
| mbpp_plus | ``prompt`` (a docstring)            | ``canonical_solution``                     | tests: meta      |
| columns   | ``data.prompt_key``                 | ``data.answer_key`` if set                 | meta             |

| raylign   | ``messages``                        | ``answer``                                 | as `rows` says   |
What is to be imitated (SFT) is TRL's ``completion`` or the last of its ``messages`` (ShareGPT: ``conversations``),
OpenRLHF's and Alpaca's ``output``, GSM8K's whole ``answer``, and the named answer column of `columns`. Of every format
``tools`` (or ``functions``) are the row's tools, and ``system`` is its system message. Columns of pictures, films and
sound are refused. How messages are read is told in `messages`, which verifier the answers imply in `answers`.

`data.prompt_key`, `data.answer_key` and `data.domain_key` override a format's own columns; a dot enters an object
(``data.answer_key=extra_info.answer``), written out or as JSON text. A file that a stage wrote (`rows`) is known by its
mark whatever `data.format` says, and says itself what is what: these keys do not apply to it, `data.verifier` does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path

from raylign.data import answered, conversed
from raylign.data.answers import GSM8K_MARK, Implied, from_json, implied, plain, whole_numbers
from raylign.data.columns import Columns
from raylign.data.files import RawRow, read_rows
from raylign.data.rows import MARK, DataRow, read_row
from raylign.errors import DataError

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
    raylign = "raylign"  # written by a stage


def load_rows(
    path: str | Path,
    format: str = "auto",
    prompt_key: str = "",
    answer_key: str = "",
    domain_key: str = "",
    *,
    verifier: str = "",
) -> tuple[Format, Iterator[DataRow]]:
    """The format that was used and the rows of the file. verifier: of every row; empty: what the rows imply.

    Raises DataError on an unknown format, and while iterating on anything wrong with the file or a row.
    """
    if format not in Format.__members__:
        raise DataError(f"data.format={format} is unknown; known are {', '.join(Format.__members__)}")
    source = read_rows(path)
    first = next(source)
    kind = Format[format]
    if kind is Format.auto or MARK in first[1]:
        kind = detect(first[1], prompt_key, first[0])

    def rows() -> Iterator[DataRow]:
        read = list[DataRow]()
        for place, raw in (first, *source):
            if MARK in raw and kind is not Format.raylign:
                raise DataError(f"{place}: a row that a stage wrote, in a file of {kind.value}; fix: keep them apart")
            read.append(_READERS[kind](Columns(raw, place, prompt_key, answer_key, domain_key)))
        settled = kind is Format.raylign and not verifier
        yield from read if settled else with_verifiers(read, verifier)

    return kind, rows()


def with_verifiers(rows: Sequence[DataRow], verifier: str = "") -> Iterator[DataRow]:
    """The rows with plain answers and the verifier that is named, that their format implies, or that the answers of
    their domain imply together."""
    answers = [plain(row.answer) for row in rows]
    integers = whole_numbers([answer for answer, _ in answers])
    domains: dict[str, list[int]] = defaultdict(list)
    for index, (answer, why) in enumerate(answers):
        if answer is not None and not why and not rows[index].verifier:
            domains[rows[index].domain].append(index)
    guesses = {
        domain: implied((answers[i][0] for i in indices), (str(rows[i].messages) for i in indices))
        for domain, indices in domains.items()
    }
    some = any(answer is not None for answer, _ in answers)
    for row, (given, why) in zip(rows, answers, strict=True):
        guess = guesses.get(row.domain, Implied())
        name = verifier or row.verifier or guess.verifier
        answer = int(given) if integers and isinstance(given, float) else given
        if name in JUDGED:
            answer = from_json(answer, lists=name != "exact")
        if name == "gsm8k" and isinstance(answer, str) and GSM8K_MARK in answer:
            answer = answered.gsm8k_answer(answer, row.place)
        missing = answer is None and some
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
        (Format.raylign, MARK in names),
        (Format.columns, bool(prompt_key)),
        (Format.verl, "prompt" in names and _is_object(row.get("reward_model"))),
        (Format.mbpp_plus, {"entry_point", "canonical_solution", "base_input"} <= names),
        (Format.gsm8k, "question" in names and GSM8K_MARK in str(row.get("answer"))),
        (Format.verifiers, question and bool({"answer", "final_answer", "Answer", "solution"} & names)),
        (Format.verifiers, "prompt" in names and "answer" in names and bool({"info", "task"} & names)),
        (Format.trl, bool({"prompt", *conversed.CONVERSATIONS} & names)),
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


def _is_object(value: object) -> bool:
    """Whether a column holds an object, written out or as JSON text."""
    return isinstance(value, Mapping) or (isinstance(value, str) and value.lstrip()[:1] == "{")


_READERS: Mapping[Format, Callable[[Columns], DataRow]] = {
    Format.gsm8k: answered.gsm8k,
    Format.verl: answered.verl,
    Format.trl: conversed.trl,
    Format.openrlhf: answered.openrlhf,
    Format.verifiers: answered.verifiers,
    Format.alpaca: conversed.alpaca,
    Format.mbpp_plus: answered.mbpp_plus,
    Format.columns: conversed.named,
    Format.raylign: lambda columns: read_row(columns.row, columns.place),
}
