"""What was measured of groups, and what is missing: metrics, and the limit beyond which a step is no step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from raylign.errors import RewardError
from raylign.records import Absent, Group, Missing, Reward, Trajectory, Value

SAMPLED, NEIGHBOUR = "rollout", "neighbour"  # under these names a failed sample and the rest of its group are missing


def refuse_missing(groups: Sequence[Group], limits: Mapping[str, float]) -> None:
    """Raise RewardError when a reward is missing, or a sample has failed (`SAMPLED`), more often than allowed."""
    trajectories = [t for group in groups for t in group.trajectories]
    for name, limit in limits.items():
        asked = _asked(trajectories, name)
        reasons = [reward.reason for reward in asked if isinstance(reward, Missing)]
        if reasons and len(reasons) > limit * len(asked):
            common, count = Counter(reasons).most_common(1)[0]
            what = "the sample failed" if name == SAMPLED else f"reward {name} is missing"
            fix = "rollout.max_missing" if name == SAMPLED else f"fix the reward, or raise rewards.{name}.max_missing"
            fix = f"fix the cause, or raise {fix}" if name == SAMPLED else fix
            raise RewardError(
                f"{what} for {len(reasons)} of {len(asked)} trajectories (limit {limit:.0%}); "
                f"{count} times: {common}; fix: {fix}"
            )


def most_common_reason(groups: Sequence[Group]) -> str:
    """``NAME: REASON (N times)`` of what is missing most often; a neighbour's failed sample is no reason of its own."""
    counted = _missing(groups)
    own_reasons = Counter({text: count for text, count in counted.items() if not text.startswith(f"{NEIGHBOUR}: ")})
    if not counted:
        return "nothing is missing"
    text, count = (own_reasons or counted).most_common(1)[0]
    return f"{text} ({count} times)"


def reward_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Means per reward over what was measured, the share that was missing, and lengths.

    Metrics that shapers and strategies left on groups and trajectories are averaged over those that have them. Rewards
    and mean lengths are also given by domain, ``reward/<name>/<domain>``, where the prompts have several, and by the
    role of the calls, ``role/<role>/<name>`` and ``role/<role>/length``, where calls have one.
    """
    trajectories = [t for group in groups for t in group.trajectories]
    metrics = _means([group.metrics for group in groups]) | _means([t.metrics for t in trajectories])
    metrics |= _by_role(trajectories)
    domains = sorted({group.prompt.domain for group in groups})
    if len(domains) > 1:
        for domain in domains:
            of_domain = [group for group in groups if group.prompt.domain == domain]
            means = _rewards_of(of_domain) | _mean_length(of_domain)
            metrics |= {f"{name}/{domain}": value for name, value in means.items()}
    for name in sorted({SAMPLED, *(name for t in trajectories for name in t.rewards)}):
        rewards = _asked(trajectories, name)
        if rewards:
            metrics[f"missing/{name}"] = float(np.mean([isinstance(reward, Missing) for reward in rewards]))
    metrics |= _rewards_of(groups) | _mean_length(groups)
    judged = [score for group in groups for score in group.scores]
    scores = [score for score in judged if score is not None]
    if judged:
        metrics["missing/share"] = 1.0 - len(scores) / len(judged)
    if scores:
        metrics |= {"reward/mean": float(np.mean(scores)), "reward/std": float(np.std(scores))}
    lengths = [t.response_length for t in trajectories]
    if lengths:
        metrics |= {
            "length/max": float(np.max(lengths)),
            "length/truncated": float(np.mean([t.truncated for t in trajectories])),
            "length/empty": float(np.mean([not t.text.strip() for t in trajectories])),
        }
    return metrics


def _asked(trajectories: Sequence[Trajectory], name: str) -> list[Reward | None]:
    """A reward of those trajectories to which it applies; under the names of failed samples, of all trajectories."""
    rewards = [t.rewards.get(name) for t in trajectories if name in (SAMPLED, NEIGHBOUR) or name in t.rewards]
    return [reward for reward in rewards if not isinstance(reward, Absent)]


def _mean_length(groups: Sequence[Group]) -> dict[str, float]:
    lengths = [t.response_length for group in groups for t in group.trajectories]
    return {"length/mean": float(np.mean(lengths))} if lengths else {}


def _rewards_of(groups: Sequence[Group]) -> dict[str, float]:
    scores: dict[str, list[float]] = {}
    for trajectory in (t for group in groups for t in group.trajectories):
        for name, reward in trajectory.rewards.items():
            if isinstance(reward, Value):
                scores.setdefault(f"reward/{name}", []).append(reward.score)
    return {name: float(np.mean(values)) for name, values in sorted(scores.items())}


def _by_role(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    columns: dict[str, list[float]] = {}
    for trajectory in trajectories:
        for role in filter(None, trajectory.roles):
            length = sum(len(call.token_ids) for call in trajectory.calls if call.role == role)
            columns.setdefault(f"role/{role}/length", []).append(length)
            for name, reward in trajectory.rewards.items():
                if isinstance(reward, Value):
                    columns.setdefault(f"role/{role}/{name}", []).append(reward.roles.get(role, reward.score))
    return {name: float(np.mean(values)) for name, values in sorted(columns.items())}


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in sorted(columns.items())}


def _missing(groups: Sequence[Group]) -> Counter[str]:
    return Counter(
        f"{name}: {reward.reason}"
        for group in groups
        for trajectory in group.trajectories
        for name, reward in trajectory.rewards.items()
        if isinstance(reward, Missing)
    )
