"""Which trajectories of a step are learned from: best of a group, most spread of a group, groups that vary most.

Selectors stand between the shaper and the advantage. They see scores, never tokens, and remember nothing: what one
draws at random derives from the run's seed and the group's prompt, so a resumed run selects the same.

What is kept is no sample of the policy any more. The policy gradient treats it as one: a deliberate bias of the methods
that select (TSR, arXiv:2602.11767; RAGEN).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raylign.config.build import build
from raylign.config.schema import nodes
from raylign.contracts import GroupSelector
from raylign.records import Group, derive_seed

Indices = Sequence[int]


class KeepAll(GroupSelector):
    """Learns from everything."""

    @dataclass
    class Config:
        """No setting."""

    config: Config

    def __init__(self, config: Config, seed: int) -> None:
        self.config = config

    def select(self, groups: Sequence[Group]) -> list[Group]:
        """The groups as they are."""
        return list(groups)


class TopK(GroupSelector):
    """The `keep` best trajectories of every group by score, ties at random (best-of-N of TSR's code: 32 -> 16).

    Trajectories without a score are left out first: absent is not the worst.
    """

    @dataclass
    class Config:
        """Number of trajectories."""

        keep: int = 16

        def __post_init__(self) -> None:
            if self.keep < 1:
                raise ValueError(f"keep is {self.keep}, set it to 1 or more")

    def __init__(self, config: Config, seed: int) -> None:
        self.config, self._seed = config, seed

    def select(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with at most `keep` trajectories each, in their old order."""
        return [self._best(group) for group in groups]

    def _best(self, group: Group) -> Group:
        if len(group.valid) <= self.config.keep:
            return group
        order = _shuffled(group, self._seed, "top_k")
        best = sorted(order, key=lambda index: -_score(group, index))[: self.config.keep]
        return subgroup(group, best)


class Spread(GroupSelector):
    """Of every group the ``ceil(share * size)`` trajectories farthest from the mean R, and `extra` others at random.

    TSR's released lookahead branch (`code_spread`): share 0.5, one extra. Where the group's standard deviation is below
    `flat`, distances mean nothing and all are drawn at random. Trajectories without a score are left out.
    """

    @dataclass
    class Config:
        """Number of trajectories, and the tolerance of equal scores."""

        share: float = 0.5
        extra: int = 1
        flat: float = 1e-3

        def __post_init__(self) -> None:
            if not 0 < self.share <= 1:
                raise ValueError(f"share is {self.share}, set it above 0 and to at most 1")
            if self.extra < 0 or self.flat < 0:
                raise ValueError("extra and flat must be 0 or more")

    def __init__(self, config: Config, seed: int) -> None:
        self.config, self._seed = config, seed

    def select(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with what was chosen of each, in their old order."""
        return [self._spread(group) if group.valid else group for group in groups]

    def _spread(self, group: Group) -> Group:
        config = self.config
        order = _shuffled(group, self._seed, "spread")
        count = min(math.ceil(config.share * len(order)), len(order))
        mean = float(np.mean([_score(group, index) for index in order]))
        if score_std(group) >= config.flat:
            order = sorted(order, key=lambda index: -abs(_score(group, index) - mean))
        rest = np.random.default_rng(derive_seed(self._seed, group.prompt.key, "extra")).permutation(order[count:])
        return subgroup(group, [*order[:count], *(int(index) for index in rest[: config.extra])])


class VarianceFilter(GroupSelector):
    """The ``max(int(ratio * P), 1)`` groups whose scores have the largest population std, ties at random.

    A group with fewer than two scores has no deviation and is kept only when the others do not suffice.
    """

    @dataclass
    class Config:
        """Share of the groups that stay."""

        ratio: float = 0.25

        def __post_init__(self) -> None:
            if not 0 < self.ratio <= 1:
                raise ValueError(f"ratio is {self.ratio}, set it above 0 and to at most 1")

    def __init__(self, config: Config, seed: int) -> None:
        self.config, self._seed = config, seed

    def select(self, groups: Sequence[Group]) -> list[Group]:
        """The kept groups, in their old order."""
        if not groups:
            return []
        count = max(int(self.config.ratio * len(groups)), 1)
        lots = [derive_seed(self._seed, group.prompt.key, "variance") for group in groups]
        order = sorted(range(len(groups)), key=lambda at: (-_deviation(groups[at]), lots[at]))
        return [groups[at] for at in sorted(order[:count])]


class Chain(GroupSelector):
    """Several selectors, one after the other.

    Example: ``selector={_target_: ….Chain, parts: [{_target_: ….TopK}, {_target_: ….VarianceFilter}]}``
    """

    @dataclass
    class Config:
        """The selectors, in order."""

        parts: list[dict[str, Any]] = nodes(GroupSelector)

        def __post_init__(self) -> None:
            if not self.parts:
                raise ValueError("parts is empty: name selectors, or use KeepAll")

    config: Config

    def __init__(self, config: Config, seed: int) -> None:
        """Raises ConfigError on a part that is none."""
        self.config = config
        self.parts: list[GroupSelector] = [
            build(GroupSelector, node, f"selector.parts.{number}", seed=seed)
            for number, node in enumerate(config.parts)
        ]

    def select(self, groups: Sequence[Group]) -> list[Group]:
        """Apply the selectors one after the other."""
        selected = list(groups)
        for selector in self.parts:
            selected = selector.select(selected)
        return selected


def subgroup(group: Group, indices: Indices) -> Group:
    """A group of some of its trajectories, in their old order."""
    chosen = sorted(indices)
    return replace(
        group,
        trajectories=tuple(group.trajectories[index] for index in chosen),
        scores=tuple(group.scores[index] for index in chosen),
        call_scores=tuple(group.call_scores[index] for index in chosen) if group.call_scores else (),
        role_scores=tuple(group.role_scores[index] for index in chosen) if group.role_scores else (),
        token_scores={name: tuple(scores[index] for index in chosen) for name, scores in group.token_scores.items()},
    )


def score_std(group: Group) -> float:
    """Population standard deviation of the scores of a group; NaN with fewer than two."""
    scores = [_score(group, index) for index in group.valid]
    return float(np.std(scores)) if len(scores) > 1 else float("nan")


def selection_metrics(before: Sequence[Group], after: Sequence[Group]) -> dict[str, float]:
    """What a selection did: groups, trajectories and sampled tokens kept and discarded, in-group standard deviation of
    the scores and share of groups without any, before and after. Deviations are over groups with two scores or more.
    """
    metrics: dict[str, float] = {}
    counts = {
        "groups": (len(before), len(after)),
        "trajectories": (_trajectories(before), _trajectories(after)),
        "tokens": (_tokens(before), _tokens(after)),
    }
    for name, (all_of_them, selected) in counts.items():
        metrics |= {f"select/{name}_kept": float(selected), f"select/{name}_discarded": float(all_of_them - selected)}
    for name, groups in (("before", before), ("after", after)):
        deviations = [std for group in groups if not math.isnan(std := score_std(group))]
        if deviations:
            metrics[f"select/std_{name}"] = float(np.mean(deviations))
            metrics[f"select/zero_variance_{name}"] = float(np.mean([std == 0 for std in deviations]))
    return metrics


def _trajectories(groups: Sequence[Group]) -> int:
    return sum(len(group.trajectories) for group in groups)


def _tokens(groups: Sequence[Group]) -> int:
    return sum(trajectory.response_length for group in groups for trajectory in group.trajectories)


def _score(group: Group, index: int) -> float:
    score = group.scores[index]
    assert score is not None
    return score


def _deviation(group: Group) -> float:
    std = score_std(group)
    return -1.0 if math.isnan(std) else std


def _shuffled(group: Group, seed: int, purpose: str) -> list[int]:
    """The indices of the scored trajectories in a random order of the group's own."""
    rng = np.random.default_rng(derive_seed(seed, group.prompt.key, purpose))
    return [int(index) for index in rng.permutation(group.valid)]
