"""What a group's episodes cost the user, for logs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raylign.recipes.bao.turns import Episode
from raylign.records import Trajectory

UP_TO = 5  # k of Pass@U-k


def behaviour_figures(trajectories: Sequence[Trajectory], episodes: Sequence[Episode]) -> dict[str, float]:
    """Means over the episodes of a group, which are those of the trajectories in their order.

    ``bao/score`` (what the environment paid), ``bao/effort`` (U), ``bao/turns`` (T'), ``bao/ur`` (sum of U over sum of
    T' in the group), ``bao/consecutive`` (share of turns), ``bao/pass_at_u_k``, ``bao/budget_exhausted`` (share that
    ran out of tokens unsolved), ``bao/think_tokens`` (of a turn: its tokens times the share of letters before its act).
    """
    if not episodes:
        return {}
    turns = sum(episode.completed for episode in episodes)
    metrics = {
        "bao/score": float(np.mean([episode.rewards.sum() for episode in episodes])),
        "bao/effort": float(np.mean([episode.effort for episode in episodes])),
        "bao/turns": turns / len(episodes),
        "bao/ur": sum(episode.effort for episode in episodes) / turns,
        "bao/consecutive": float(sum(episode.consecutive.sum() for episode in episodes)) / turns,
    }
    for most in range(1, UP_TO + 1):
        metrics[f"bao/pass_at_u_{most}"] = float(np.mean([episode.within(most) for episode in episodes]))
    ran_out = [
        trajectory.truncated and not episode.solved
        for trajectory, episode in zip((t for t in trajectories if t.calls), episodes, strict=True)
    ]
    metrics["bao/budget_exhausted"] = float(np.mean(ran_out))
    thoughts = [
        len(call.token_ids) * call.flags["thought"] / max(len(call.text), 1)
        for trajectory in trajectories
        for call in trajectory.calls
        if "thought" in call.flags
    ]
    return metrics | ({"bao/think_tokens": float(np.mean(thoughts))} if thoughts else {})


def judge_figures(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """What the simulated users and judges of a group were asked, and ``bao/lost``: episodes that they let down."""
    last = [trajectory.calls[-1].flags for trajectory in trajectories if trajectory.calls]
    if not last or not all("judge/asked" in flags for flags in last):
        return {}
    total = {
        name: float(sum(flags[f"judge/{name}"] for flags in last))
        for name in ("asked", "calls", "hits", "unavailable", "unreadable", "seconds", "tokens")
    }
    metrics = {"bao/lost": float(np.mean([bool(flags["lost"]) for flags in last])), "judge/asked": total["asked"]}
    metrics |= {"judge/calls": total["calls"], "judge/tokens": total["tokens"]}
    if total["calls"]:
        metrics["judge/latency_s"] = total["seconds"] / total["calls"]
    if total["asked"]:
        metrics["judge/hit_rate"] = total["hits"] / total["asked"]
        metrics["judge/failures"] = (total["unavailable"] + total["unreadable"]) / total["asked"]
    return metrics
