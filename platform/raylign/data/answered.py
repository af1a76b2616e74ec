"""Rows of tasks with gold answers: GSM8K, verl, verifiers and the published evaluation files, OpenRLHF, MBPP+."""

from __future__ import annotations

from collections.abc import Mapping

from raylign.data.answers import GSM8K_MARK
from raylign.data.columns import Columns, row_of
from raylign.data.messages import answer_of
from raylign.data.rows import DataRow
from raylign.errors import DataError


def gsm8k(columns: Columns) -> DataRow:
    """The answer behind ``####``; all of it is what is to be imitated."""
    target = str(columns.answer("answer", required=True))
    return row_of(
        columns,
        columns.prompt("question"),
        "question",
        "answer",
        answer=gsm8k_answer(target, columns.place),
        target=target,
        verifier="gsm8k",
        domain="gsm8k",
    )


def verl(columns: Columns) -> DataRow:
    """`reward_model` is an object, or the JSON text of one."""
    model = columns.object_at(columns.row.get("reward_model"), "reward_model")
    if not columns.answer_key and (not isinstance(model, Mapping) or model.get("ground_truth") is None):
        raise DataError(
            f"{columns.place}: no column 'reward_model.ground_truth'; columns present: {', '.join(columns.row)}"
        )
    source = str(columns.row.get("data_source") or "")
    return row_of(
        columns,
        columns.prompt("prompt"),
        "prompt",
        "reward_model",
        "data_source",
        answer=columns.need(columns.answer_key) if columns.answer_key else model["ground_truth"],  # type: ignore[index]
        verifier=implied_verifier(source),
        domain=source,
    )


def verifiers(columns: Columns) -> DataRow:
    """A question with its answer, as verifiers and the published evaluation files have it."""
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
        answer = ", ".join(str(choice).strip().strip("$").strip() for choice in answer)
    return row_of(
        columns,
        prompt,
        *("prompt", "question", "problem", "Question", "Problem", "answer", "final_answer", "Answer"),
        answer=answer,
        verifier="boxed_math" if mathematics else implied_verifier(task),
        domain=task,
    )


def openrlhf(columns: Columns) -> DataRow:
    """`input`, with `label` as gold answer and `output` as what is to be imitated."""
    answer = columns.answer("label", required=False)
    target = answer_of(columns.row.get("output"), columns.place, "the output")
    return row_of(columns, columns.prompt("input"), "input", "label", "output", answer=answer, target=target)


def mbpp_plus(columns: Columns) -> DataRow:
    """The tests stay in `meta`, prompt included: it shows how the row's own test compares."""
    solution = str(columns.answer("canonical_solution", required=True)).strip()
    text = str(columns.prompt("prompt")).strip().strip('"').strip()
    return row_of(
        columns,
        f"{text}\n\nAnswer with one Python code block.",
        "canonical_solution",
        answer=solution,
        target=f"```python\n{solution}\n```",
        verifier="unit_tests",
        domain="code",
    )


def gsm8k_answer(text: str, place: str) -> str:
    """The text after the last ``####``, thousands separators removed. Raises DataError when nothing does."""
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
