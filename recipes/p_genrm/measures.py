"""What judging came to: accuracies by kind of item, ties, parse rates, ranks; in evaluations and training steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raylign.contracts import GroupMetrics, Measure
from raylign.objectives.shaping import WeightedSum
from raylign.recipes.p_genrm.combine import top_of
from raylign.recipes.p_genrm.items import of_prompt
from raylign.recipes.p_genrm.rewards import SCALED
from raylign.records import Group, Trajectory, Value


class Judgements(Measure):
    """Means over samples: ``accuracy`` (a chain that is not in form, and a tie, is wrong), ``parsed``, ``tie``,
    ``first`` (accuracy where a tie chooses response 1), ``spearman`` (of items with more than two responses),
    ``hard`` and ``easy`` (accuracy by the gap between the ratings: its lowest third, and the rest), ``macro`` (mean
    over prototypes of each one's accuracy) and ``prototypes`` (how many occurred).
    """

    @dataclass
    class Config:
        """Name of the reward that judges."""

        outcome: str = "outcome"

    config: Config

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Nothing without a judged sample."""
        rows = list(self._rows(groups))
        if not rows:
            return {}
        metrics = {name: _mean(rows, name) for name in ("accuracy", "parsed", "tie", "first", "spearman")}
        gaps = [row["gap"] for row in rows if row["gap"] is not None]
        if gaps:
            limit = float(np.quantile(gaps, 1 / 3))
            rated = [row for row in rows if row["gap"] is not None]
            metrics["hard"] = _mean([row for row in rated if row["gap"] <= limit], "accuracy")
            metrics["easy"] = _mean([row for row in rated if row["gap"] > limit], "accuracy")
        by_prototype = defaultdict(list)
        for row in rows:
            if row["prototype"] is not None:
                by_prototype[row["prototype"]].append(row["accuracy"])
        if by_prototype:
            metrics["macro"] = float(np.mean([np.mean(values) for values in by_prototype.values()]))
            metrics["prototypes"] = float(len(by_prototype))
        return {name: value for name, value in metrics.items() if value is not None}

    def table(self, groups: Sequence[Group]) -> list[Mapping[str, Any]]:
        """A row for each judged sample."""
        return list(self._rows(groups))

    def _rows(self, groups: Sequence[Group]) -> Iterable[dict[str, Any]]:
        for group in groups:
            item = of_prompt(group.prompt)
            for trajectory in group.trajectories:
                value = trajectory.rewards.get(self.config.outcome)
                if isinstance(value, Value):
                    scores = value.details.get("scores")
                    yield {
                        "prompt": group.prompt.id,
                        "user": item.user,
                        "accuracy": value.score,
                        "parsed": float(value.details["parsed"]),
                        "tie": float(value.details["tie"]),
                        "first": float(scores is not None and top_of(scores)[0] == item.best),
                        "spearman": value.details.get("spearman"),
                        "gap": item.gap,
                        "prototype": trajectory.payload.get(SCALED, {}).get("prototype"),
                    }


class ChainFigures(WeightedSum):
    """The weighted sum; logs shares of chains: ``chains/parsed``, ``chains/format_error``, ``chains/tie``."""

    def metrics(self, groups: Sequence[Group]) -> list[GroupMetrics]:
        """See `WeightedSum.metrics`."""
        summed = super().metrics(groups)
        return [
            GroupMetrics(group={**of_sum.group, **_chains(group.trajectories)})
            for of_sum, group in zip(summed, groups, strict=True)
        ]


def _chains(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    values = [trajectory.rewards.get("outcome") for trajectory in trajectories]
    details = [value.details for value in values if isinstance(value, Value) and "parsed" in value.details]
    if not details:
        return {}
    parsed = float(np.mean([detail["parsed"] for detail in details]))
    tie = float(np.mean([detail["tie"] for detail in details]))
    return {"chains/parsed": parsed, "chains/format_error": 1 - parsed, "chains/tie": tie}


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return float(np.mean(values)) if values else None
