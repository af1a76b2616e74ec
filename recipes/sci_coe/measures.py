"""The verifier put to use: of N solutions the one that most of the own strategies accept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raylign.contracts import Measure
from raylign.recipes.sci_coe.roles import SOLVES
from raylign.recipes.sci_coe.shaper import details_of, labels_of
from raylign.records import Group


class BestOfN(Measure):
    """``accuracy`` of argmax_i sum_j J_ij (ties: the earliest), beside that of a ``sample``, their difference ``gain``,
    and ``any`` (a solution of the group is right). Over questions whose solutions were all judged and compared.

    With `solutions_judged` the share of the strategies that were asked stands in place of the sum.
    """

    @dataclass
    class Config:
        """Names of rewards."""

        judged: str = "geometric"  # `Geometric` or `Anchored`, whose verdicts choose
        correct: str = "correct"  # what knows which solutions are right

        def __post_init__(self) -> None:
            if not (self.judged and self.correct):
                raise ValueError(f"judged={self.judged!r}, correct={self.correct!r}: name both rewards")

    config: Config

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Nothing without a question that counts."""
        rows = self.table(groups)
        if not rows:
            return {}
        chosen, sample = (float(np.mean([row[name] for row in rows])) for name in ("chosen_right", "share_right"))
        any_right = float(np.mean([row["share_right"] > 0 for row in rows]))
        return {"accuracy": chosen, "sample": sample, "gain": chosen - sample, "any": any_right}

    def table(self, groups: Sequence[Group]) -> list[Mapping[str, Any]]:
        """A row for each question: which solution was chosen, by which share of strategies, and whether rightly."""
        rows: list[Mapping[str, Any]] = []
        for group in groups:
            solutions = details_of(group, self.config.judged, SOLVES)
            labels = labels_of(group, self.config.judged, self.config.correct)
            if not solutions or None in labels or not all(detail.get("judged") for detail in solutions):
                continue
            shares = [detail["accepted"] / detail["judged"] for detail in solutions]
            best = int(np.argmax(shares))
            rows.append(
                {
                    "prompt": group.prompt.id,
                    "chosen": best,
                    "accepted": shares[best],
                    "chosen_right": float(bool(labels[best])),
                    "share_right": float(np.mean([bool(label) for label in labels])),
                }
            )
        return rows
