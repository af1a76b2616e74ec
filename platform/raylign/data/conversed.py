"""Rows of conversations and completions: TRL, Alpaca, and columns that the settings name."""

from __future__ import annotations

from dataclasses import replace

from raylign.data.columns import Columns, row_of
from raylign.data.messages import answer_of, messages_of, said
from raylign.data.rows import DataRow
from raylign.errors import DataError

CONVERSATIONS = ("messages", "conversations", "conversation")


def trl(columns: Columns) -> DataRow:
    """A prompt with its completion, or a conversation; a gold answer beside it where a column names one."""
    answer, place = columns.answer("answer", "solution", "ground_truth", required=False), columns.place
    truth = columns.row.get("ground_truth")
    if not columns.answer_key and truth is not None and "answer" in columns.row and str(truth) != str(answer):
        raise DataError(f"{place}: answer and ground_truth say different things; name one with data.answer_key")
    name = next((name for name in CONVERSATIONS if columns.row.get(name) is not None), "")
    if name and columns.row.get("prompt") is None and not columns.prompt_key:
        conversation = messages_of(columns.row[name], place, f"column {name!r}")
        *prompt, last = conversation
        if last["role"] == "assistant" and prompt:
            return row_of(columns, prompt, name, answer=answer, target=said(last))
        if last["role"] == "assistant" or answer is None:
            raise DataError(
                f"{place}: {name} must hold a prompt and end with an answer of the assistant; where they are prompts "
                f"alone, set data.format=columns data.prompt_key={name}"
            )
        return row_of(columns, conversation, name, answer=answer)
    if name and not columns.prompt_key and columns.row.get("completion") is None:
        said_here = [message["content"] for message in messages_of(columns.row[name], place, f"column {name!r}")]
        if messages_of(columns.row["prompt"], place)[-1]["content"] not in said_here:
            raise DataError(f"{place}: prompt and {name} say different things; drop one, or set data.prompt_key")
        return trl(replace(columns, row={key: value for key, value in columns.row.items() if key != "prompt"}))
    prompt = columns.prompt("prompt")
    target = answer_of(columns.row.get("completion"), place)
    if target is not None and columns.row.get("label") is False:
        raise DataError(f"{place}: label=false (KTO) says that the completion is not to be imitated; drop the row")
    return row_of(columns, prompt, "prompt", "completion", answer=answer, target=target)


def alpaca(columns: Columns) -> DataRow:
    """The instruction, and below it the input where there is one."""
    asked, place = str(columns.prompt("instruction")), columns.place
    if columns.row.get("history") or (columns.row.get("input") and columns.row.get("context")):
        raise DataError(f"{place}: a history, or input and context both, are not read; write messages")
    more = columns.row.get("input") or columns.row.get("context") or ""
    target = answer_of(columns.need("output", "response"), place, "the output")
    used = ("instruction", "input", "context", "output", "response", "history")
    return row_of(columns, f"{asked}\n\n{more}" if more else asked, *used, target=target)


def named(columns: Columns) -> DataRow:
    """The columns that `data.prompt_key` and `data.answer_key` name; an answer that is a text or a number is also what
    is imitated.
    """
    if not columns.prompt_key:
        raise DataError("data.format=columns needs data.prompt_key")
    answer = columns.answer(required=False)
    target = answer if isinstance(answer, str) else _digits(answer)
    return row_of(columns, columns.prompt(), answer=answer, target=target)


def _digits(answer: object) -> str | None:
    """A number as it is written; one that a column with gaps made a float is whole again. None for anything else."""
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        return None
    return str(int(answer)) if isinstance(answer, float) and answer.is_integer() else str(answer)
