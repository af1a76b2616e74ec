"""What an evaluation says of the user's effort: ratios of sums, by gym, and which policies no other one dominates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylign.contracts import Measure
from raylign.recipes.bao.turns import Episode, FlagNames, episode_of
from raylign.records import Group, Missing

ALL = "all"


class UserEffort(Measure):
    """Over all episodes that have a reward: ``ur`` (sum of U over sum of T'), ``effort`` (U an episode), ``turns``,
    ``score``, ``success``, ``consecutive`` (share of turns), ``pass_at_u_k``; where there are several domains also
    ``<domain>/…``. Table: a row for each domain and for all.
    """

    @dataclass
    class Config:
        """up_to: the largest k of Pass@U-k. The other fields are those of the shaper."""

        up_to: int = 5
        user: str = "user"
        valid: str = "valid"
        success: str = "success"
        budget: int = 0

        def __post_init__(self) -> None:
            if self.up_to < 1 or self.budget < 0:
                raise ValueError(f"up_to={self.up_to}, budget={self.budget}: set them to 1 and 0 or more")

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """See `Measure.metrics`; nothing without a measured episode."""
        by_domain = self._episodes(groups)
        numbers = self.numbers(by_domain.pop(ALL, []))
        if len(by_domain) > 1:
            for domain, episodes in by_domain.items():
                numbers |= {f"{domain}/{name}": value for name, value in self.numbers(episodes).items()}
        return numbers

    def table(self, groups: Sequence[Group]) -> list[Mapping[str, Any]]:
        """See `Measure.table`."""
        rows = {domain: self.numbers(episodes) for domain, episodes in self._episodes(groups).items()}
        return [{"domain": domain, **numbers} for domain, numbers in rows.items() if numbers]

    def numbers(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """The figures of some episodes."""
        if not episodes:
            return {}
        count, turns = len(episodes), sum(episode.completed for episode in episodes)
        numbers = {
            "ur": sum(episode.effort for episode in episodes) / turns,
            "effort": sum(episode.effort for episode in episodes) / count,
            "turns": turns / count,
            "score": sum(float(episode.rewards.sum()) for episode in episodes) / count,
            "success": sum(episode.solved for episode in episodes) / count,
            "consecutive": float(sum(episode.consecutive.sum() for episode in episodes)) / turns,
            "episodes": float(count),
        }
        for most in range(1, self.config.up_to + 1):
            numbers[f"pass_at_u_{most}"] = sum(episode.within(most) for episode in episodes) / count
        return numbers

    def _episodes(self, groups: Sequence[Group]) -> dict[str, list[Episode]]:
        config = self.config
        names = FlagNames(user=config.user, valid=config.valid, success=config.success)
        by_domain: dict[str, list[Episode]] = {}
        for group in groups:
            for trajectory in group.trajectories:
                if trajectory.calls and not any(isinstance(reward, Missing) for reward in trajectory.rewards.values()):
                    episode = episode_of(trajectory, names, config.budget)
                    by_domain.setdefault(ALL, []).append(episode)
                    by_domain.setdefault(group.prompt.domain or "no domain", []).append(episode)
        return by_domain


def pareto(points: Mapping[str, tuple[float, float]]) -> dict[str, bool]:
    """Whether each point (score, user involvement) is dominated by none: no other has as much score for as little
    involvement, and one of the two better.
    """
    return {
        name: not any(
            other[0] >= score and other[1] <= involved and other != (score, involved) for other in points.values()
        )
        for name, (score, involved) in points.items()
    }
