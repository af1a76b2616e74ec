"""What one step's groups say about composition, before dynamic sampling drops the uninformative ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylign.data.pass_rate import by_grade, passes, solved
from raylign.recipes.composition_rl.compose.recovery import links_recovered, recovery_metrics
from raylign.records import Group


def composition(group: Group) -> Mapping[str, Any]:
    """What the source wrote on the group's prompt: depth, seeds, links; a prompt of another source has depth 1."""
    written: Mapping[str, Any] = group.prompt.meta.get("composition", {"depth": 1, "seeds": (), "links": ()})
    return written


def step_metrics(groups: Sequence[Group], reward: str) -> dict[str, float]:
    """Solve-all, solve-none and informative ratios, accuracy and length per depth, recovery of the linked values."""
    metrics = by_grade(groups, [int(composition(group)["depth"]) for group in groups], "depth", reward)
    chains = [group for group in groups if composition(group)["links"]]
    stated = [links_recovered(t.text, composition(group)["links"]) for group in chains for t in group.trajectories]
    return metrics | recovery_metrics(stated, [right for group in chains for right in solved(group, reward)])


def solved_by_all(groups: Sequence[Group], reward: str) -> Iterator[Sequence[str]]:
    """The seeds of each chain that every measured rollout solved."""
    for group in groups:
        seeds, passed = composition(group)["seeds"], passes(group, reward)
        if seeds and passed and min(passed) == 1:
            yield seeds
