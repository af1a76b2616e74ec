"""What an audit of some samples came to, and how it is shown beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raylign.records import Group, Reward, Trajectory

PREFIX = "audit/"  # of grades among the rewards of a recorded trajectory
EXPLOIT, GAP = "audit/exploit", "audit/gap"  # among its metrics; without the first it was not judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A sample that graders were asked about.

    `exploit` is None where nobody could judge: no training reward, no grade, or a start that is not known yet. `gap`
    is the largest of its graders', see `raylign.audit.watch.Verdict`.
    """

    group: int
    trajectory: int
    grades: Mapping[str, Reward]
    exploit: bool | None = None
    gap: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Something that an audit found out in this step, once.

    Example: ``News(kind="exploit_appeared", message="audit: ...", facts={"grader": "judge", "step": 12})``
    """

    kind: str
    message: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """An audit of `groups`."""

    groups: Sequence[Group]
    graded: Sequence[Graded]
    metrics: Mapping[str, float]
    news: Sequence[News] = field(default_factory=tuple)


def with_grades(groups: Sequence[Group], audited: Audited | None) -> list[Group]:
    """Groups as they are recorded: each sample that was audited with its grades among its rewards, as ``audit/NAME``.

    Those that are not among the groups, because nothing is learned from them, follow in groups of their own.
    """
    if audited is None:
        return list(groups)
    by_sample = {}
    for graded in audited.graded:
        trajectory = audited.groups[graded.group].trajectories[graded.trajectory]
        by_sample[trajectory.prompt_key, trajectory.sample_index] = graded
    shown = [
        replace(group, trajectories=tuple(_with(trajectory, by_sample) for trajectory in group.trajectories))
        for group in groups
    ]
    return shown + _others(audited, by_sample)


def _with(trajectory: Trajectory, by_sample: dict[tuple[str, int], Graded]) -> Trajectory:
    """The trajectory with its grades, which are then taken from the samples that are left."""
    graded = by_sample.pop((trajectory.prompt_key, trajectory.sample_index), None)
    if graded is None:
        return trajectory
    grades = {f"{PREFIX}{name}": reward for name, reward in graded.grades.items()}
    metrics = {} if graded.exploit is None else {EXPLOIT: float(graded.exploit)}
    metrics |= {} if graded.gap is None else {GAP: graded.gap}
    return replace(trajectory, rewards={**trajectory.rewards, **grades}, metrics={**trajectory.metrics, **metrics})


def _others(audited: Audited, left: dict[tuple[str, int], Graded]) -> list[Group]:
    others = []
    for number, group in enumerate(audited.groups):
        own = sorted(graded.trajectory for graded in left.values() if graded.group == number)
        if own:
            trajectories = tuple(_with(group.trajectories[index], left) for index in own)
            scores = tuple(group.scores[index] for index in own) if group.scores else ()
            others.append(Group(prompt=group.prompt, trajectories=trajectories, scores=scores))
    return others
