"""What a shaper is asked: scores, which training learns from, and metrics, which are logged. Both are checked here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from raylign.contracts import GroupMetrics, RewardShaper
from raylign.errors import RewardError
from raylign.records import Group


def scored(shaper: RewardShaper, groups: Sequence[Group]) -> list[Group]:
    """The groups as the shaper scores them.

    Raises RewardError unless each has a finite score, or None, for each of its trajectories.
    """
    result = shaper.score(groups)
    _refuse(shaper, "score", len(groups), len(result), "groups")
    for before, after in zip(groups, result, strict=True):
        place = f"trajectories of {before.prompt.key}"
        _refuse(shaper, "score", len(before.trajectories), len(after.scores), place)
        for finer in filter(None, (after.call_scores, after.role_scores, *after.token_scores.values())):
            _refuse(shaper, "score", len(before.trajectories), len(finer), place)
        same = len(before.trajectories) == len(after.trajectories)
        same = same and all(a is b for a, b in zip(before.trajectories, after.trajectories, strict=True))
        if not same or after.prompt is not before.prompt:
            raise RewardError(
                f"{type(shaper).__name__}.score changed prompt or trajectories of {before.prompt.key}; "
                "fix: replace the scores only, in the groups' order; what is logged is given by metrics"
            )
        for score in (*after.scores, *(score for roles in after.role_scores for score in roles.values())):
            if score is not None and not math.isfinite(score):
                raise RewardError(
                    f"{type(shaper).__name__}.score gives {score} in {before.prompt.key}; "
                    "fix: let it raise, or give None where there is no score"
                )
        _check_tokens(shaper, after)
    return result


def logged(shaper: RewardShaper, groups: Sequence[Group]) -> list[Group]:
    """The same groups, with what the shaper logs beside the metrics that they and their trajectories have.

    Raises RewardError unless it answers for every group, and for all trajectories of one or none.
    """
    metrics = shaper.metrics(groups)
    _refuse(shaper, "metrics", len(groups), len(metrics), "groups")
    return [_with(shaper, group, of_group) for group, of_group in zip(groups, metrics, strict=True)]


def _check_tokens(shaper: RewardShaper, group: Group) -> None:
    for name, scores in group.token_scores.items():
        for trajectory, of_tokens in zip(group.trajectories, scores, strict=True):
            if of_tokens is None:
                continue
            if of_tokens.shape != (trajectory.response_length,) or not np.isfinite(of_tokens).all():
                raise RewardError(
                    f"{type(shaper).__name__}.score gives token scores {name} of shape {of_tokens.shape}, or some that "
                    f"are not finite, to the {trajectory.response_length} sampled tokens of a trajectory of "
                    f"{group.prompt.key}; fix: give one finite number for each sampled token, or None"
                )


def _with(shaper: RewardShaper, group: Group, metrics: GroupMetrics) -> Group:
    trajectories = group.trajectories
    if metrics.trajectories:
        place = f"trajectories of {group.prompt.key}"
        _refuse(shaper, "metrics", len(trajectories), len(metrics.trajectories), place)
        trajectories = tuple(
            replace(trajectory, metrics={**trajectory.metrics, **own})
            for trajectory, own in zip(trajectories, metrics.trajectories, strict=True)
        )
    return replace(group, trajectories=trajectories, metrics={**group.metrics, **metrics.group})


def _refuse(shaper: RewardShaper, method: str, asked: int, answers: int, what: str) -> None:
    if asked != answers:
        raise RewardError(
            f"{type(shaper).__name__}.{method} answers for {answers} of {asked} {what}; fix: give one each, in order"
        )
