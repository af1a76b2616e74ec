"""What one step's groups say about composition, before dynamic sampling drops the uninformative ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raylign.data.pass_rate import by_grade, solved
from raylign.recipes.composition_rl.compose.recovery import links_recovered
from raylign.records import Group


def composition(group: Group) -> Mapping[str, Any]:
    """What the source wrote on the group's prompt: depth, seeds, links; a prompt of another source has depth 1."""
    written: Mapping[str, Any] = group.prompt.meta.get("composition", {"depth": 1, "seeds": (), "links": ()})
    return written


def step_metrics(groups: Sequence[Group], reward: str) -> dict[str, float]:
    """Solve-all, solve-none and informative ratios, accuracy and length per depth, recovery of the linked values.

    `lucky`: share of the solved chains whose first linked value is not stated right; only the last answer is verified.
    """
    metrics = by_grade(groups, [int(composition(group)["depth"]) for group in groups], "depth", reward)
    recovered: list[list[bool]] = []  # of each response to a chain, by link
    lucky: list[bool] = []
    for group in groups:
        if links := composition(group)["links"]:
            own = [links_recovered(trajectory.text, links) for trajectory in group.trajectories]
            recovered += own
            lucky += [not stated[0] for stated, right in zip(own, solved(group, reward), strict=True) if right]
    if recovered:
        metrics["v1_recovered"] = float(np.mean([stated[0] for stated in recovered]))
        metrics["links_recovered"] = float(np.mean([right for stated in recovered for right in stated]))
    if lucky:
        metrics["lucky"] = float(np.mean(lucky))
    return metrics
