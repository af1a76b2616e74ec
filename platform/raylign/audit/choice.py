"""Which samples graders are asked about: a share of them, chosen by prompt and sample alone, never more than that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from raylign.loop.reward_metrics import SAMPLED
from raylign.records import Group, derive_seed

ROUNDING = 1e-9  # .1 * 30 is a little more than 3


@dataclass(slots=True, kw_only=True)
class Budget:
    """Of all samples so far at most `share` are graded: what a step is too small for is carried to the next.

    Example: ``Budget(share=0.1, seed=1).choose(groups)`` is ``[(0, 3), (5, 1)]`` of 20 samples
    """

    share: float
    seed: int  # the run's
    sampled: int = 0  # so far
    asked: int = 0  # of these

    def choose(self, groups: Sequence[Group], whole: bool = False) -> list[tuple[int, int]]:
        """(group, trajectory) of those to ask about, in the order of the groups.

        whole: groups with all their samples. Whatever order groups, or workers, come in, the same are chosen. A sample
        that failed has nothing to be graded, and neither has the whole of its group.
        """
        self.sampled += sum(len(group.trajectories) for group in groups)
        room = math.floor(self.share * self.sampled + ROUNDING) - self.asked
        chosen: list[tuple[int, int]] = []
        for unit in sorted(self._whole(groups) if whole else self._single(groups)):
            if len(chosen) + len(unit[1]) > room:
                break
            chosen += unit[1]
        self.asked += len(chosen)
        return sorted(chosen)

    def state_dict(self) -> dict[str, int]:
        """The counts."""
        return {name: count for name, count in asdict(self).items() if name in ("sampled", "asked")}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from what `state_dict` gave."""
        self.sampled, self.asked = state["sampled"], state["asked"]

    def _single(self, groups: Sequence[Group]) -> list[tuple[int, list[tuple[int, int]]]]:
        return [
            (derive_seed(self.seed, "audit", trajectory.prompt_key, trajectory.sample_index), [(number, index)])
            for number, group in enumerate(groups)
            for index, trajectory in enumerate(group.trajectories)
            if SAMPLED not in trajectory.rewards
        ]

    def _whole(self, groups: Sequence[Group]) -> list[tuple[int, list[tuple[int, int]]]]:
        return [
            (derive_seed(self.seed, "audit", group.prompt.key), [(number, i) for i in range(len(group.trajectories))])
            for number, group in enumerate(groups)
            if not any(SAMPLED in trajectory.rewards for trajectory in group.trajectories)
        ]
