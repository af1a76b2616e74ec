"""What is logged of a question's solutions and strategies; their scores are the weighted sum of their rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raylign.config.resolve import Run
from raylign.errors import Problem
from raylign.objectives.shaping import WeightedSum, unknown_reward
from raylign.recipes.sci_coe.judged import RIGHT
from raylign.recipes.sci_coe.roles import SOLVES, VERIFIES
from raylign.records import Group, Value

TERMS = ("consistency", "reliability", "diversity")
Details = Sequence[dict[str, Any]]


class CoEvolution(WeightedSum):
    """`WeightedSum`, and per question, of the reward that judged it (names begin with ``sci_coe/``):

    ``consensus`` (mean c), ``label`` (share with yhat = 1), ``no_right``, ``no_wrong`` (1 where yhat is all 0, all 1),
    ``consistency``, ``reliability``, ``diversity`` and their ``…_std``, ``clusters`` in use, ``effective_clusters``
    (exp of the entropy of their sizes), ``singletons`` (share of strategies alone in theirs), ``accepted`` (mean J),
    ``judged`` (share of the matrix with a verdict), ``stated``, ``void`` (shares of strategies). Where labels are
    known: ``agreement`` (of yhat with them), ``accepted_right``, ``accepted_wrong`` (shares of verdicts).
    ``judge/…``: asked, calls, unparsable, hit_rate, latency_s.
    """

    @dataclass
    class Config(WeightedSum.Config):
        """Where labels come from."""

        correct: str = ""  # a reward of solutions that knows; "": nothing is compared with labels

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """The reward must be there."""
        return super().problems(key, config, run) + unknown_reward(f"{key}.correct", config.correct, run.config.rewards)

    config: Config

    def _metrics(self, group: Group) -> dict[str, float]:
        return super()._metrics(group) | judged_metrics(group, self.weights, self.config.correct)


def judged_metrics(group: Group, rewards: Sequence[str] | dict[str, float], correct: str) -> dict[str, float]:
    """See `CoEvolution`. rewards: names, of which the first that judged the group counts."""
    name = judged_by(group, rewards)
    if not name:
        return {}
    solutions, strategies = details_of(group, name, SOLVES), details_of(group, name, VERIFIES)
    metrics = _of_solutions(solutions) | _of_strategies(strategies) | _of_judge([*solutions, *strategies])
    labels = labels_of(group, name, correct)
    known = np.array([label is not None for label in labels], bool)
    if known.any():
        metrics |= _against(solutions, strategies, np.array([bool(label) for label in labels]), known)
    return {(name if name.startswith("judge/") else f"sci_coe/{name}"): value for name, value in metrics.items()}


def judged_by(group: Group, rewards: Sequence[str] | dict[str, float]) -> str:
    """The first of these rewards that told roles apart in this group; empty without."""
    return next((name for name in rewards if details_of(group, name, SOLVES)), "")


def details_of(group: Group, reward: str, role: str) -> list[dict[str, Any]]:
    """What a judged reward left on the samples of a role, in their order."""
    values = [trajectory.rewards.get(reward) for trajectory in group.trajectories]
    return [dict(value.details) for value in values if isinstance(value, Value) and value.details.get("role") == role]


def labels_of(group: Group, reward: str, correct: str) -> list[bool | None]:
    """Whether each solution that the reward judged is right, by the reward `correct`; None where that is not known."""
    labels: list[bool | None] = []
    for trajectory in group.trajectories:
        value, known = trajectory.rewards.get(reward), trajectory.rewards.get(correct)
        if isinstance(value, Value) and value.details.get("role") == SOLVES:
            labels.append(known.score >= RIGHT if isinstance(known, Value) else None)
    return labels


def _of_solutions(solutions: Details) -> dict[str, float]:
    labels = [detail["label"] for detail in solutions if "label" in detail]
    if not labels:
        return {}
    return {
        "consensus": float(np.mean([detail["consensus"] for detail in solutions])),
        "label": float(np.mean(labels)),
        "no_right": float(not any(labels)),
        "no_wrong": float(all(labels)),
    }


def _of_strategies(strategies: Details) -> dict[str, float]:
    metrics: dict[str, float] = {}
    if strategies:
        metrics = {name: float(np.mean([detail[name] for detail in strategies])) for name in ("stated", "void")}
    verdicts = [verdict for detail in strategies for verdict in detail.get("verdicts", ())]
    given = [verdict for verdict in verdicts if verdict is not None]
    if verdicts:
        metrics["judged"] = len(given) / len(verdicts)
    if given:
        metrics["accepted"] = float(np.mean(given))
    placed = [detail for detail in strategies if "cluster" in detail]
    for name in TERMS if placed else ():
        values = [detail[name] for detail in placed]
        metrics |= {name: float(np.mean(values)), f"{name}_std": float(np.std(values))}
    if placed:
        sizes = np.unique([detail["cluster"] for detail in placed], return_counts=True)[1]
        shares = sizes / sizes.sum()
        metrics["clusters"] = float(len(sizes))
        metrics["effective_clusters"] = float(np.exp(-np.sum(shares * np.log(shares))))
        metrics["singletons"] = float((sizes == 1).sum() / sizes.sum())
    return metrics


def _of_judge(samples: Details) -> dict[str, float]:
    cost = next((detail["judge"] for detail in samples if "judge" in detail), None)
    if cost is None or not cost["asked"]:
        return {}
    metrics = {f"judge/{name}": float(cost[name]) for name in ("asked", "unparsable")}
    metrics |= {"judge/calls": cost["judge/calls"], "judge/hit_rate": cost["judge/hits"] / cost["asked"]}
    if cost["judge/calls"]:
        metrics["judge/latency_s"] = cost["judge/seconds"] / cost["judge/calls"]
    return metrics


def _against(solutions: Details, strategies: Details, labels: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Pseudo-labels and verdicts beside labels. labels, known: [N]."""
    metrics: dict[str, float] = {}
    believed = [detail.get("label") for detail in solutions]
    pairs = [(mine, bool(label)) for mine, label, there in zip(believed, labels, known, strict=True) if there]
    agreed = [mine == label for mine, label in pairs if mine is not None]
    if agreed:
        metrics["agreement"] = float(np.mean(agreed))
    for name, side in (("accepted_right", labels & known), ("accepted_wrong", ~labels & known)):
        given = [
            verdict
            for detail in strategies
            for verdict, counts in zip(detail.get("verdicts", ()), side, strict=False)
            if counts and verdict is not None
        ]
        if given:
            metrics[name] = float(np.mean(given))
    return metrics
