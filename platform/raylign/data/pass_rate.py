"""Pass rates: how often the answers to a prompt are right. A screen and a curriculum go by them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from raylign.objectives.shaping import correctness
from raylign.records import Group

SOLVED = 1.0 - 1e-6


def solved(group: Group, reward: str = "") -> list[bool | None]:
    """Whether each trajectory of the group solved its prompt, None where that was not measured.

    reward: whose word counts, see `correctness`.
    """
    return [None if value is None else value.score >= SOLVED for value in correctness(group, reward)]


def passes(group: Group, reward: str = "") -> list[float]:
    """1 or 0 for every trajectory of the group that was measured."""
    return [float(right) for right in solved(group, reward) if right is not None]


def solve_ratios(rates: Sequence[float]) -> dict[str, float]:
    """Shares of prompts that all of their answers solve, that none does, and the rest; empty without a prompt.

    rates: the pass rate of each prompt.
    """
    if not rates:
        return {}
    every, none = float(np.mean([rate == 1 for rate in rates])), float(np.mean([rate == 0 for rate in rates]))
    return {"solve_all": every, "solve_none": none, "informative": 1 - every - none}


def by_grade(groups: Sequence[Group], grades: Sequence[int], name: str, reward: str = "") -> dict[str, float]:
    """Solve ratios of all groups, and per grade solve ratios, accuracy and mean length, as ``.../<name>_<grade>``.

    grades: of each group's prompt, e.g. the depth that a curriculum goes by.
    """
    rates: dict[int, list[float]] = defaultdict(list)
    lengths: dict[int, list[int]] = defaultdict(list)
    for group, grade in zip(groups, grades, strict=True):
        if passed := passes(group, reward):
            rates[grade].append(float(np.mean(passed)))
        lengths[grade] += [trajectory.response_length for trajectory in group.trajectories]
    metrics = solve_ratios([rate for values in rates.values() for rate in values])
    for grade, values in sorted(rates.items()):
        metrics[f"accuracy/{name}_{grade}"] = float(np.mean(values))
        metrics |= {f"{ratio}/{name}_{grade}": value for ratio, value in solve_ratios(values).items()}
    metrics |= {f"length/{name}_{grade}": float(np.mean(values)) for grade, values in sorted(lengths.items()) if values}
    return metrics
