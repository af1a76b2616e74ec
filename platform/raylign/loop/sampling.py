"""The groups of one step: from the rollout buffer, scored, refilled where scores are equal, selected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from raylign.contracts import GroupSelector, RewardShaper
from raylign.loop.collect import Collected
from raylign.loop.reward_metrics import refuse_missing, reward_metrics
from raylign.loop.rollout_buffer import RolloutBuffer
from raylign.loop.scoring import logged, scored
from raylign.loop.settings import LoopSettings
from raylign.objectives.selection import selection_metrics
from raylign.records import Group


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
        self, buffer: RolloutBuffer, shaper: RewardShaper, selector: GroupSelector, settings: LoopSettings
    ) -> None:
        self._buffer, self._shaper, self._selector, self._settings = buffer, shaper, selector, settings

    async def sample(self, on_phase: Callable[[str], None]) -> SampledStep:
        """One step's groups. on_phase: told ``rollout`` and ``reward`` when they begin."""
        numbers = self._settings.step
        useful, rounds = list[Group](), list[Collected]()
        for _ in range(numbers.sampling_rounds if numbers.dynamic_sampling else 1):
            on_phase("rollout")
            collected = await self._buffer.take(numbers.prompts_per_step, lambda: on_phase("reward"))
            collected.groups = logged(self._shaper, scored(self._shaper, collected.groups))
            rounds.append(collected)
            kept = [group for group in collected.groups if not numbers.dynamic_sampling or differs(group)]
            useful += kept
            self._buffer.replace(len(collected.groups) - len(kept))
            if len(useful) >= numbers.prompts_per_step:
                break
        self._buffer.replace(len(useful) - numbers.prompts_per_step)  # a step is worth its prompts, filled or not
        sampled = [group for collected in rounds for group in collected.groups]
        refuse_missing(sampled, self._settings.missing_limits)
        groups, selected = self._selected(useful[: numbers.prompts_per_step])
        metrics = (
            reward_metrics(sampled)
            | selected
            | {
                "groups/equal": float(np.mean([not differs(group) for group in sampled])),
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
        return [group for group in chosen if not self._settings.step.dynamic_sampling or differs(group)], metrics


def differs(group: Group) -> bool:
    """Whether a group has two different scores: only then do its samples teach against each other."""
    return len({score for score in group.scores if score is not None}) > 1
