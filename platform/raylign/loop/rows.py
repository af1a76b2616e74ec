"""Groups -> the learner's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from raylign.batch import Batch
from raylign.payloads import references
from raylign.records import Float32s, Group, row_from


def row_places(groups: Sequence[Group], unscored: bool = False) -> list[tuple[int, int]]:
    """(group, trajectory) of each row of `rows_of`."""
    return [
        (number, index)
        for number, group in enumerate(groups)
        for index in (range(len(group.trajectories)) if unscored else group.valid)
    ]


def rows_of(groups: Sequence[Group], mask_truncated: bool = False, unscored: bool = False) -> tuple[Batch, Float32s]:
    """The learner's rows of all trajectories that have a score, in order, and their scores [B].

    mask_truncated: rows cut by a length limit get weight 0 (they stay in their group's statistics).
    unscored: rows of trajectories without a score too, with score NaN.
    """
    samples, scores = [], []
    places = row_places(groups, unscored)
    by_turn = any(
        call.reward is not None or len(t.calls) > 1 for g in groups for t in g.trajectories for call in t.calls
    )
    fresh = any(call.fresh for group in groups for t in group.trajectories for call in t.calls)
    for number, index in places:
        group = groups[number]
        trajectory = group.trajectories[index]
        call_scores = group.call_scores[index] if group.call_scores else None
        finer = by_turn or bool(group.call_scores)
        sample = row_from(trajectory, group.prompt, number, call_scores, finer, fresh=fresh)
        if held := references(trajectory.payload):
            sample = replace(sample, payload=held)
        if mask_truncated and trajectory.truncated:
            sample = replace(sample, weight=np.zeros_like(sample.weight))
        samples.append(sample)
        score = group.scores[index]
        scores.append(float("nan") if score is None else score)
    return Batch.from_rows(samples), np.array(scores, np.float32)
