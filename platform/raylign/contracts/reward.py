"""What trajectories are worth, and what a step learns from."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeAlias

from raylign.contracts.part import Part
from raylign.contracts.state import StatefulPart
from raylign.records import Group, Prompt, Reward, Trajectory, Value


class Scope(StrEnum):
    """What a reward function looks at in one call."""

    TRAJECTORY = "trajectory"  # scored the moment it finishes, while its neighbours still generate
    GROUP = "group"  # all samples of a prompt at once


ScoredItem: TypeAlias = tuple[Prompt, Sequence[Trajectory]]  # one trajectory, or for scope `group` all of a prompt


class RewardFunction(Part):
    """Scores trajectories. Runs in a reward actor, which adds the deadline, the retries and `Missing`.

    A score that cannot be computed is an exception, never a zero.
    """

    what = "a reward function"
    # Set by a class, or by an instance whose Config chooses.
    scope: Scope = Scope.TRAJECTORY
    isolated: bool = False  # True: each call runs in a killable child process
    maximum: float = 1.0  # what a gold answer scores
    cpu_s: float | None = None  # of an isolated function: a verdict that spends more CPU seconds is a wrong answer, 0
    # True: a call may score several items at once, which is what `score_batch` is for; not with `isolated`.
    batched: bool = False
    scores_tokens: bool = False  # True: its values have `spans`, which the advantage weighs by `token_weights`
    judges_text: bool = True  # False: needs what a rollout left behind (turn rewards, tool results); no text proves it

    @abstractmethod
    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> Sequence[Value | None]:
        """One value per trajectory (one trajectory for scope `trajectory`), None where the reward does not apply.

        Raises on anything it cannot judge.
        """

    def score_batch(self, items: Sequence[ScoredItem]) -> Sequence[Sequence[Value | None] | Exception]:
        """What `score` gives for each of several items, or the exception that it would raise for that one.

        Called where `batched` is True. What it raises itself is nobody's failure yet: each item is then scored alone.
        """
        return [self.score(prompt, trajectories) for prompt, trajectories in items]

    @classmethod
    def model_of(cls, config: Any) -> str:
        """Folder or id of the model that each of its actors holds, for the plan; empty: none, or one not there yet."""
        return ""

    @classmethod
    def single_tokens(cls, config: Any) -> Mapping[str, str]:
        """By setting, words whose probabilities are read: where one is several tokens the run is refused."""
        return {}

    def cpu_limit(self, prompt: Prompt) -> float | None:
        """CPU seconds that a verdict on this prompt may take; None: only the pool's deadline holds."""
        return self.cpu_s

    def gold(self, prompt: Prompt) -> str | None:
        """A response that must score `maximum`, or None when the prompt has none."""
        return None

    def wrong(self, prompt: Prompt) -> str | None:
        """A response that must score less than `maximum`, or None."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMetrics:
    """What a shaper logs of one group.

    Example: ``GroupMetrics(group={"reward/score": 0.5}, trajectories=({"length/z": -1.0}, {"length/z": 1.0}))``
    """

    group: Mapping[str, float] = field(default_factory=dict)
    trajectories: Sequence[Mapping[str, float]] = ()  # one for each, in order; empty: nothing of any


class RewardShaper(StatefulPart):
    """Turns the rewards of a group into the scores that advantage works on; may keep state across steps.

    weights: of the rewards, by name; max_tokens: that a response may have; tokenizer: the policy's `ChatTemplate`;
    seed: the run's.
    """

    what = "a reward shaper"
    made_with = ("weights", "max_tokens", "tokenizer", "seed")

    reads_spans: ClassVar[bool] = False  # True: the spans of a reward become token scores under the reward's name

    @classmethod
    def token_scores(cls, config: Any) -> frozenset[str]:
        """Names under which it fills `Group.token_scores` itself, beside what it makes of spans."""
        return frozenset()

    @abstractmethod
    def score(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with `scores` (None where a reward is missing) and, if it has them, `call_scores` filled in.

        Called once for every group that training samples, never for an evaluation: state may move here, and only here.
        """

    def metrics(self, groups: Sequence[Group]) -> list[GroupMetrics]:
        """What is logged of each group; moves no state.

        Training asks for it after `score`. An evaluation asks a shaper that has scored nothing: there the groups are
        scored by the weighted sum of their rewards.
        """
        return [GroupMetrics() for _ in groups]


class GroupSelector(Part):
    """Chooses what a step learns from, between shaper and advantage: trajectories of groups, and groups.

    seed: the run's. It remembers nothing: what it draws at random derives from the seed and the prompts' keys.
    """

    what = "a selector"
    made_with = ("seed",)

    @abstractmethod
    def select(self, groups: Sequence[Group]) -> list[Group]:
        """Some of the groups with some of their trajectories, in their old order. Scores are filled in, or None."""


class RewardPools(Protocol):
    """All reward actors, by reward name."""

    async def score(self, prompt: Prompt, trajectory: Trajectory) -> Mapping[str, Reward]:
        """Trajectory-scoped rewards of one trajectory."""

    async def score_group(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Mapping[str, Reward]]:
        """Group-scoped rewards of all samples of a prompt."""


def finite(value: float, what: str) -> float:
    """The value, or ValueError naming it when it is NaN or infinite."""
    if not math.isfinite(value):
        raise ValueError(f"{what} is {value}")
    return float(value)
