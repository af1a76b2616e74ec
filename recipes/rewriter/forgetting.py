"""What a model has forgotten: its score on every task against that of the model before it was tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from raylign.config.resolve import Run
from raylign.contracts import Measure, artifact
from raylign.errors import DataError, Problem
from raylign.records import Group

NO_DOMAIN = "all"  # the task of prompts without a domain


class Tasks(Measure):
    """The mean score of each task (domain), ``<task>``, and of all tasks alike, ``mean``; as a table, too.

    What `Forgetting` compares with. Samples without a score leave the means.
    """

    @dataclass
    class Config:
        """Nothing to set."""

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Nothing without a score."""
        rows = self.table(groups)
        return _with_mean({str(row["task"]): float(row["score"]) for row in rows})

    def table(self, groups: Sequence[Group]) -> list[Mapping[str, Any]]:
        """A row for each task: ``task``, ``score``, ``samples``."""
        scores: dict[str, list[float]] = {}
        for group in groups:
            known = [score for score in group.scores if score is not None]
            scores.setdefault(group.prompt.domain or NO_DOMAIN, []).extend(known)
        return [
            {"task": task, "score": float(np.mean(values)), "samples": len(values)}
            for task, values in sorted(scores.items())
            if values
        ]


class Forgetting(Measure):
    """Score before less score now of each task, ``<task>``, and of all tasks alike, ``mean``: above 0 is forgotten.

    As a table: ``task``, ``before``, ``now``, ``forgotten``.
    """

    @dataclass
    class Config:
        """Whose table of `Tasks` is the one before."""

        before: str = artifact()  # @STAGE/NAME of an Evaluate stage with a measure of that name, or its file

    config: Config

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """There must be a table."""
        fix = "set it to @STAGE/NAME, of an Evaluate stage of the model before and its raylign.recipes.rewriter.Tasks"
        if not config.before:
            return [Problem(key=f"{key}.before", value="empty", why="there is nothing to compare with", fix=fix)]
        if not config.before.startswith("@") and not Path(config.before).expanduser().is_file():
            return [Problem(key=f"{key}.before", value=config.before, why="is no file", fix=fix)]
        return []

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Nothing without a score."""
        return _with_mean({str(row["task"]): float(row["forgotten"]) for row in self.table(groups)})

    def table(self, groups: Sequence[Group]) -> list[Mapping[str, Any]]:
        """See the class. Raises DataError where the two do not tell of the same tasks."""
        before = _read(self.config.before)
        now = {str(row["task"]): float(row["score"]) for row in Tasks(Tasks.Config()).table(groups)}
        if set(before) != set(now):
            raise DataError(
                f"{self.config.before} tells of {', '.join(before)}, and this evaluation of "
                f"{', '.join(now) or 'none'}; fix: ask both models the same prompts"
            )
        return [
            {"task": task, "before": before[task], "now": now[task], "forgotten": before[task] - now[task]}
            for task in now
        ]


def _with_mean(by_task: dict[str, float]) -> dict[str, float]:
    return {**by_task, "mean": float(np.mean(list(by_task.values())))} if by_task else {}


def _read(path: str) -> dict[str, float]:
    """Scores by task of a table of `Tasks`. Raises DataError on any other file."""
    try:
        rows = [orjson.loads(line) for line in Path(path).expanduser().read_bytes().splitlines()]
        return {str(row["task"]): float(row["score"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no table of tasks and scores ({error!r}); fix: name one of Tasks") from error
