"""Procedural tasks from reasoning-gym: endless rows, each with the entry that its own scorer grades."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raylign.data.rows import DataRow
from raylign.errors import DataError
from raylign.records import derive_seed

VERIFIER = "reasoning_gym"
NAME = re.compile(r'^DATASET_NAME = "(\w+)"|^register_dataset\(\s*"(\w+)"', re.MULTILINE)
DRAWS_PER_ROW = 8  # how far to look for rows that differ before a task counts as exhausted


@functools.cache
def task_names() -> tuple[str, ...]:
    """The names of all data sets, read from the package's files: importing it takes seconds. Empty without it."""
    spec = importlib.util.find_spec("reasoning_gym")
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    texts = [file.read_text() for folder in folders for file in folder.rglob("*.py")]
    return tuple(sorted({name for text in texts for pair in NAME.findall(text) for name in pair if name}))


def procedural_rows(task: str, task_args: Mapping[str, Any], size: int, seed: int) -> Iterator[DataRow]:
    """`size` rows of a reasoning-gym data set with different questions; fewer when the task has no more.

    `meta` keeps ``dataset``, ``task_args`` and ``entry`` (question, answer, metadata). `fields` offers the entry to
    `data.task_template`, so that ``{metadata[expression]}=`` gives a short prompt. Raises DataError on an unknown task,
    or an argument that it refuses.
    """
    if size <= 0:
        raise DataError(f"data.task={task} needs data.size, the number of rows to generate")
    dataset = _dataset(task, task_args, size * DRAWS_PER_ROW, seed)
    questions: set[str] = set()
    for index in range(size * DRAWS_PER_ROW):
        entry = dataset[index]
        question = str(entry["question"])
        if question in questions:
            continue
        questions.add(question)
        answer = None if entry["answer"] is None else str(entry["answer"])
        yield DataRow(
            messages=({"role": "user", "content": question},),
            place=f"{task}[{index}]",
            answer=answer,
            target=answer,
            verifier=VERIFIER,
            domain=task,
            meta={"dataset": task, "task_args": dict(task_args), "entry": dict(entry)},
            fields=entry,
        )
        if len(questions) == size:
            return


def _dataset(task: str, task_args: Mapping[str, Any], draws: int, seed: int) -> Any:
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if task not in DATASETS:
        raise DataError(f"data.task={task} is no reasoning-gym data set; there are {', '.join(sorted(DATASETS))}")
    # reasoning-gym seeds row i with seed + i: neighbouring run seeds would share all rows but one.
    wide = derive_seed(seed, "procedural", task) % 2**32
    try:
        return reasoning_gym.create_dataset(task, **dict(task_args), seed=wide, size=draws)
    except (TypeError, AssertionError, ValueError) as error:
        raise DataError(f"data.task_args={json.dumps(dict(task_args))} do not suit {task}: {error}") from error
