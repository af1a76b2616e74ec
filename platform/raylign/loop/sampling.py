"""The groups of one step: from the rollout buffer, scored, refilled where scores are equal, selected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raylign.batch import Batch
from raylign.contracts import Advantage, GroupSelector, RewardShaper
from raylign.loop.collect import Collected
from raylign.loop.reward_metrics import refuse_missing, reward_metrics
from raylign.loop.rollout_buffer import RolloutBuffer
from raylign.loop.scoring import logged, scored
from raylign.loop.settings import LoopSettings
from raylign.objectives.selection import selection_metrics
from raylign.records import Group

NONE: Mapping[str, float] = {}


@dataclass(slots=True, kw_only=True)
class SampledStep:
    """What a step learns from, and everything that was sampled for it."""

    groups: list[Group]  # scored and selected
    sampled: list[Group]  # also those that dynamic sampling dropped
    tokens: int
    metrics: dict[str, float]


class StepSampler:
    """Fills steps; see `StepSettings` for the rules."""

    def __init__(
        self,
        buffer: RolloutBuffer,
        shaper: RewardShaper,
        selector: GroupSelector,
        settings: LoopSettings,
        advantage: Advantage | None = None,
    ) -> None:
        """advantage: says which scores are compared, and what scores of tokens count; None: those of whole samples."""
        self._buffer, self._shaper, self._selector, self._settings = buffer, shaper, selector, settings
        self._by_role = advantage.by_role if advantage else False
        self._token_weights = advantage.token_weights if advantage else NONE

    async def sample(self, on_phase: Callable[[str], None]) -> SampledStep:
        """One step's groups. on_phase: told ``rollout`` and ``reward`` when they begin."""
        numbers = self._settings.step
        useful, rounds = list[Group](), list[Collected]()
        for _ in range(numbers.sampling_rounds if numbers.dynamic_sampling else 1):
            on_phase("rollout")
            collected = await self._buffer.take(numbers.prompts_per_step, lambda: on_phase("reward"))
            collected.groups = logged(self._shaper, scored(self._shaper, collected.groups))
            rounds.append(collected)
            differing = [group for group in collected.groups if self._useful(group)]
            useful += differing
            self._buffer.replace(len(collected.groups) - len(differing))
            if len(useful) >= numbers.prompts_per_step:
                break
        self._buffer.replace(len(useful) - numbers.prompts_per_step)  # a step is worth its prompts, filled or not
        sampled = [group for collected in rounds for group in collected.groups]
        refuse_missing(sampled, self._settings.missing_limits)
        groups, selected = self._selected(useful[: numbers.prompts_per_step])
        metrics = (
            reward_metrics(sampled)
            | selected
            | _equal(sampled, self._by_role)
            | {
                "groups/sampled": float(len(sampled)),
                "groups/rounds": float(len(rounds)),
                "groups/surplus": float(max(0, len(useful) - numbers.prompts_per_step)),
                "groups/fill": min(1.0, len(useful) / numbers.prompts_per_step),
                "time/reward_tail": sum(collected.reward_tail_s for collected in rounds),
            }
        )
        tokens = sum(collected.tokens for collected in rounds)
        return SampledStep(groups=groups, sampled=sampled, tokens=tokens, metrics=metrics)

    def _selected(self, groups: list[Group]) -> tuple[list[Group], dict[str, float]]:
        """What the selector keeps; with dynamic sampling, without the groups that it has made equal."""
        chosen = self._selector.select(groups)
        metrics = selection_metrics(groups, chosen)
        return [group for group in chosen if self._useful(group)], metrics

    def _useful(self, group: Group) -> bool:
        """Whether dynamic sampling, where it is on, keeps a group."""
        return not self._settings.step.dynamic_sampling or differs(group, self._by_role, self._token_weights)


def _equal(groups: Sequence[Group], by_role: bool) -> dict[str, float]:
    """The share of groups whose scores are all equal, of those that have two to compare."""
    compared = [group for group in groups if sum(score is not None for score in group.scores) > 1]
    return {"groups/equal": float(np.mean([not differs(group, by_role) for group in compared]))} if compared else {}


def differs(group: Group, by_role: bool = False, token_weights: Mapping[str, float] = NONE) -> bool:
    """Whether a group has two different scores (by_role: of one role), only then do its samples teach against each
    other; or a token with a score that counts, which teaches by itself.
    """
    weighed = (group.token_scores.get(name, ()) for name, weight in token_weights.items() if weight)
    if any(scores is not None and scores.any() for of_reward in weighed for scores in of_reward):
        return True
    scores: dict[str, set[float | None]] = {}
    for index in group.valid:
        for role in group.trajectories[index].roles if by_role else ("",):
            scores.setdefault(role, set()).add(group.score_of(index, role))
    return any(len(of_role) > 1 for of_role in scores.values())


def teaches(batch: Batch, groups: Sequence[Group], advantage: Advantage) -> bool:
    """Whether the scores of a step say what to change: some sample is to be drawn more often than another, or less.

    A penalty in the reward (KL) makes advantages of equal scores, which is no word of the rewards.
    """
    if not advantage.reads_scores:
        return True
    told_by_scores = not advantage.compares_samples or "turn_score" in batch
    told = told_by_scores or any(differs(group, advantage.by_role, advantage.token_weights) for group in groups)
    return told and bool(np.any(batch["advantage"]))
