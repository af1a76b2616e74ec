"""Every quantity of a group's rewards, and how it is logged: enough to recompute each reward from the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raylign.records import Trajectory, Value

Float64s = NDArray[np.float64]
TIERS = ("easy", "medium", "hard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaped:
    """Every quantity of one group, each [n], and the statistics that they rest on.

    Example: ``Shaped(tier=[0, 0], f_reflection=[.5, .5], ..., reward=[.9, 0.0], means=(3, 80), stds=(1, 1))``
    """

    tier: NDArray[np.int64]  # 0 easy, 1 medium, 2 hard
    f_reflection: Float64s
    f_length: Float64s
    alpha_reflection: Float64s
    alpha_length: Float64s
    reward: Float64s
    means: tuple[float, float]  # of reflections and of tokens
    stds: tuple[float, float]


def rows(
    shaped: Shaped, reflections: Float64s, lengths: Float64s, correct: NDArray[np.bool_], pooled: NDArray[np.bool_]
) -> list[dict[str, float]]:
    """What is logged of each trajectory, enough to recompute its reward."""
    (mean_r, mean_l), (std_r, std_l) = shaped.means, shaped.stds
    columns = {
        "reflections": reflections,
        "length": lengths,
        "correct": correct,
        "pooled": pooled,
        "tier": shaped.tier,
        "f_reflection": shaped.f_reflection,
        "f_length": shaped.f_length,
        "reward": shaped.reward,
    }
    group = {"mean_reflections": mean_r, "std_reflections": std_r, "mean_length": mean_l, "std_length": std_l}
    return [
        {f"arlcp/{name}": float(column[i]) for name, column in columns.items()}
        | {f"arlcp/{name}": value for name, value in group.items()}
        for i in range(len(reflections))
    ]


def splits(row: Mapping[str, float], trajectory: Trajectory, verdict: Value) -> dict[str, float]:
    """The same numbers under names that say which answers they are of, so that their means are the splits."""
    side = "right" if row["arlcp/correct"] else "wrong"
    tier = TIERS[int(row["arlcp/tier"])]
    extra = {f"arlcp/tier_{name}": float(name == tier) for name in TIERS}
    for what in ("reflections", "length"):
        extra |= {f"arlcp/{what}_{side}": row[f"arlcp/{what}"], f"arlcp/{what}_{tier}": row[f"arlcp/{what}"]}
    extra["arlcp/truncated"] = float(trajectory.truncated)
    if "format" in verdict.details:
        extra["arlcp/format_failure"] = 1.0 - float(verdict.details["format"])
    return extra
