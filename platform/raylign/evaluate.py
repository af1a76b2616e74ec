"""Held-out evaluation: the policy that the engines hold, on prompts that it is not trained on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from raylign.audit.graded import Audited
from raylign.contracts import Measure, RewardShaper
from raylign.errors import DataError, RewardError, RunError
from raylign.loop.group_sampler import GroupSampler
from raylign.loop.reward_metrics import most_common_reason, reward_metrics
from raylign.loop.scoring import logged
from raylign.records import Group, Prompt
from raylign.run_folder import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Metrics of one evaluation and the groups behind them.

    A score here is the weighted sum of the rewards, whatever the shaper makes of them for training: a length penalty
    or a group's statistics have no place in a result. What the shaper logs is logged.

    ``eval/score`` is the mean score, ``eval/best`` the mean over prompts of the best of `samples`, and
    ``eval/prompts`` the number of prompts with at least one measured answer.
    """

    metrics: dict[str, float]
    groups: list[Group]
    measured: dict[str, float] = field(default_factory=dict)  # of the stage's measures, without ``eval/``
    tables: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)  # by measure, those that have rows
    audited: Audited | None = None

    def with_audit(self, audited: Audited | None) -> Evaluation:
        """The same with what graders said of it, ``eval/audit/...``."""
        if audited is None:
            return self
        metrics = self.metrics | {f"eval/{name}": value for name, value in audited.metrics.items()}
        return replace(self, metrics=metrics, audited=audited)

    @property
    def score(self) -> float:
        """Mean score."""
        return self.metrics["eval/score"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator(GroupSampler):
    """What an evaluation needs besides prompts."""

    shaper: RewardShaper  # asked for its metrics only, so that its state stays as it is
    measures: Mapping[str, Measure] = field(default_factory=dict)

    async def run(self, prompts: Sequence[Prompt], samples: int = 1, greedy: bool = True) -> Evaluation:
        """Sample every prompt `samples` times and score it. greedy: temperature 0 (then samples should be 1).

        Raises DataError without prompts, RewardError when too much is missing, or everything.
        """
        if not prompts:
            raise DataError("there is no prompt to evaluate on; fix: set data.holdout, data.eval_path or the split")
        groups = logged(self.shaper, await self.groups(prompts, samples, greedy))
        by_group = [[score for score in group.scores if score is not None] for group in groups]
        measured = [scores for scores in by_group if scores]
        if not measured:
            raise RewardError(
                f"none of {len(prompts) * samples} answers could be scored: {most_common_reason(groups)}; "
                "fix: remove the cause"
            )
        metrics = {f"eval/{name}": value for name, value in reward_metrics(groups).items()}
        metrics |= {
            "eval/score": float(np.mean([np.mean(scores) for scores in measured])),
            "eval/best": float(np.mean([max(scores) for scores in measured])),
            "eval/prompts": float(len(measured)),
        }
        own = measured_by(self.measures, groups)
        tables = {name: rows for name, measure in self.measures.items() if (rows := measure.table(groups))}
        metrics |= {f"eval/{name}": value for name, value in own.items()}
        return Evaluation(metrics=metrics, groups=groups, measured=own, tables=tables)


def measured_by(measures: Mapping[str, Measure], groups: Sequence[Group]) -> dict[str, float]:
    """``<measure>/<name>`` of all measures. Raises RunError on a value that is no finite number."""
    values = {
        f"{name}/{key}": value for name, measure in measures.items() for key, value in measure.metrics(groups).items()
    }
    for name, value in values.items():
        if not math.isfinite(value):
            raise RunError(f"measure {name} gave {value}; fix: leave out what cannot be measured")
    return values


def write_tables(folder: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Each table to its place in the folder of a stage."""
    for name, rows in tables.items():
        path = table_path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomically(path, lines.encode())


def table_path(folder: Path, name: str) -> Path:
    """Where the table of a measure stands in the folder of a stage."""
    return folder / "measures" / f"{name}.jsonl"
