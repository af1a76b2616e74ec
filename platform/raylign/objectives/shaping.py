"""Rewards of a trajectory -> the one score that advantage works on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from raylign.chat.spans import on_tokens, token_ranges
from raylign.contracts import GroupMetrics, RewardShaper, finite
from raylign.errors import ConfigError, Problem
from raylign.records import Absent, Float32s, Group, Reward, Span, Trajectory, Value

if TYPE_CHECKING:
    from raylign.chat.template import ChatTemplate
    from raylign.config.resolve import Run


class WeightedSum(RewardShaper):
    """score = sum of weight * reward, plus the soft overlong penalty of DAPO (arXiv:2503.14476, eq. 13) when it is on.

    With L = max_tokens, buffer C and y sampled tokens: 0 for y <= L - C, (L - C - y) / C in between, -1 for y > L; all
    times overlong_penalty. A trajectory lacking any reward of non-zero weight has no score (absent is not zero) and
    leaves its group's statistics. A reward that does not apply (`Absent`) adds nothing; where none applies there is no
    score. A reward of weight 0 is only logged. Where a reward scores roles (`Value.roles`), each role of a trajectory
    has its own sum, in which such rewards count by what they gave to the role and all else by the score. Where a reward
    scores spans (`Value.spans`), its tokens have these scores under its name (`Group.token_scores`).

    Group metrics: mean of each reward over the trajectories that have it (`reward/<name>`), `reward/score`,
    `reward/unscored` (share without a score), `reward/overlong` (mean penalty, when on).
    """

    reads_spans = True

    @dataclass
    class Config:
        """Every choice that changes the number."""

        overlong_buffer: int = 0  # C in tokens, 0: no penalty
        overlong_penalty: float = 1.0

        def __post_init__(self) -> None:
            if self.overlong_buffer < 0 or self.overlong_penalty < 0:
                raise ValueError("overlong_buffer and overlong_penalty must be 0 or more")

    @classmethod
    def problems(cls, key: str, config: Any, run: Run) -> list[Problem]:
        """The buffer lies within an answer."""
        most = run.config.rollout.sampling.max_tokens
        if config.overlong_buffer <= most:
            return []
        why, fix = f"exceeds rollout.sampling.max_tokens={most}", f"set {key}.overlong_buffer={most // 4}"
        return [Problem(key=f"{key}.overlong_buffer", value=str(config.overlong_buffer), why=why, fix=fix)]

    def __init__(
        self, config: Config, weights: Mapping[str, float], max_tokens: int, tokenizer: Any = None, seed: int = 0
    ) -> None:
        # tokenizer: None where nothing is learned from tokens. seed: offered to every shaper; a sum draws nothing
        if config.overlong_buffer > max_tokens:
            raise ValueError(
                f"overlong_buffer={config.overlong_buffer} exceeds max_tokens={max_tokens}: make it smaller"
            )
        self.config = config
        self.weights = dict(weights)
        self.max_tokens = max_tokens
        self.tokenizer = tokenizer

    def score(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with `scores`. Raises ValueError on a reward that is not finite."""
        return [self._scored(group) for group in groups]

    def metrics(self, groups: Sequence[Group]) -> list[GroupMetrics]:
        """The group metrics that the class lists, of the sum whatever the groups' scores are."""
        return [GroupMetrics(group=self._metrics(group)) for group in groups]

    def _scored(self, group: Group) -> Group:
        return replace(
            group,
            scores=self._scores(group),
            role_scores=self._role_scores(group),
            token_scores={} if self.tokenizer is None else token_scores(group, self.tokenizer),
        )

    def _scores(self, group: Group) -> tuple[float | None, ...]:
        return tuple(self._score(trajectory) for trajectory in group.trajectories)

    def _role_scores(self, group: Group) -> tuple[dict[str, float], ...]:
        """Of each trajectory by role; empty where no reward scores roles."""
        values = [value for t in group.trajectories for value in t.rewards.values() if isinstance(value, Value)]
        if not any(value.roles for value in values):
            return ()
        by_role = [{role: self._score(t, role) for role in t.roles} for t in group.trajectories]
        return tuple({role: score for role, score in scores.items() if score is not None} for scores in by_role)

    def _metrics(self, group: Group) -> dict[str, float]:
        scores, metrics = self._scores(group), dict[str, float]()
        for name in self.weights:
            values = [t.rewards.get(name) for t in group.trajectories]
            measured = [value.score for value in values if isinstance(value, Value)]
            if measured:
                metrics[f"reward/{name}"] = sum(measured) / len(measured)
        known = [score for score in scores if score is not None]
        if known:
            metrics["reward/score"] = sum(known) / len(known)
        count = max(len(scores), 1)
        metrics["reward/unscored"] = 1.0 - len(known) / count
        if self.config.overlong_buffer:
            metrics["reward/overlong"] = sum(map(self._overlong, group.trajectories)) / count
        return metrics

    def _score(self, trajectory: Trajectory, role: str | None = None) -> float | None:
        total, applied = self._overlong(trajectory), 0
        weights = {name: weight for name, weight in self.weights.items() if weight != 0}
        for name, weight in weights.items():
            reward = trajectory.rewards.get(name)
            if isinstance(reward, Absent):
                continue
            if not isinstance(reward, Value):
                return None
            score = reward.score if role is None else reward.roles.get(role, reward.score)
            total += weight * finite(score, f"reward {name} of {trajectory.prompt_key}")
            applied += 1
        return total if applied or not weights else None

    def _overlong(self, trajectory: Trajectory) -> float:
        buffer = self.config.overlong_buffer
        if not buffer:
            return 0.0
        excess = trajectory.response_length - (self.max_tokens - buffer)
        penalty: float = self.config.overlong_penalty * min(max(excess / buffer, 0.0), 1.0)
        return -penalty


def token_scores(group: Group, tokenizer: ChatTemplate) -> dict[str, tuple[Float32s | None, ...]]:
    """By reward: what its spans give to each sampled token of every trajectory; rewards without spans are not there."""
    scored = {name for t in group.trajectories for name, value in t.rewards.items() if _spans(value) is not None}
    return {
        name: tuple(_on_tokens(t, _spans(t.rewards.get(name)), tokenizer) for t in group.trajectories)
        for name in sorted(scored)
    }


def _spans(reward: Reward | None) -> tuple[tuple[Span, ...], ...] | None:
    return reward.spans if isinstance(reward, Value) else None


def _on_tokens(
    trajectory: Trajectory, spans: tuple[tuple[Span, ...], ...] | None, tokenizer: ChatTemplate
) -> Float32s | None:
    if not spans or not any(spans):
        return None
    of_calls = [
        on_tokens(token_ranges(tokenizer, call.token_ids), of_call) if of_call else np.zeros(len(call.token_ids))
        for call, of_call in zip(trajectory.calls, spans, strict=True)
    ]
    return np.concatenate(of_calls).astype(np.float32)


def correctness(group: Group, reward: str = "") -> list[Value | None]:
    """What says how right each trajectory is: the reward of that name, for "" the only reward, or else the score.

    None where it was not measured.
    """
    return [_correctness(group, index, reward) for index in range(len(group.trajectories))]


def _correctness(group: Group, index: int, reward: str) -> Value | None:
    rewards = group.trajectories[index].rewards
    name = reward or (next(iter(rewards)) if len(rewards) == 1 else "")
    measured = rewards.get(name)
    if isinstance(measured, Value):
        return measured
    score = group.scores[index] if not name and group.scores else None
    return None if score is None else Value(score=score)


def correctness_reward(key: str, name: str, weights: Mapping[str, float]) -> str:
    """The reward of a run that says how right an answer is: `name`, or for "" the only one that has a weight.

    key: of the setting that holds the name. Raises ConfigError when there is none, or several may be meant.
    """
    if problems := unknown_reward(key, name, weights):
        raise ConfigError(problems)
    counted = [reward for reward, weight in weights.items() if weight != 0]
    if not name and len(counted) != 1:
        why = f"which of the rewards tells correctness is not clear: {', '.join(counted) or 'none has a weight'}"
        raise ConfigError([Problem(key=key, value="", why=why, fix=f"set {key}=NAME")])
    return name or counted[0]


def unknown_reward(key: str, name: str, rewards: Collection[str]) -> list[Problem]:
    """What is wrong with a setting that names a reward, "" being none: the run has no such reward."""
    if not name or name in rewards:
        return []
    fix = f"name one of {', '.join(rewards)}" if rewards else "add rewards.<name>.fn"
    return [Problem(key=key, value=name, why="is no reward of this run", fix=fix)]
