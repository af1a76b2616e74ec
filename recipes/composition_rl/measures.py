"""What one step's groups say about composition, before dynamic sampling drops the uninformative ones."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raylign.recipes.composition_rl.latex import Unreadable, parse
from raylign.recipes.composition_rl.symbolic import same_value
from raylign.records import Group, Trajectory, Value

SOLVED = 1.0 - 1e-6
VALUE = r"\s*\$?\s*(?:=|:|is|equals)\s*\$?\s*(?P<value>-?[^\s;,$]+(?:\}\{[^\s;,$]+)*)"


def passes(group: Group, reward: str) -> list[float]:
    """1 or 0 for every trajectory that was measured; `reward` names who says solved, "" the only one or the score."""
    found = (_passed(group, index, reward) for index in range(len(group.trajectories)))
    return [float(passed) for passed in found if passed is not None]


def _passed(group: Group, index: int, reward: str) -> bool | None:
    """Whether a trajectory of the group solved its prompt; None where that was not measured."""
    trajectory = group.trajectories[index]
    name = reward or (next(iter(trajectory.rewards)) if len(trajectory.rewards) == 1 else "")
    measured = trajectory.rewards.get(name)
    if isinstance(measured, Value):
        return measured.score >= SOLVED
    score = group.scores[index] if not name and group.scores else None
    return None if score is None else score >= SOLVED


def composition(group: Group) -> Mapping[str, Any]:
    """What the source wrote on the prompt: depth, seeds, links."""
    found: Mapping[str, Any] = group.prompt.meta.get("composition", {})
    return found


def links_recovered(text: str, links: Sequence[Mapping[str, str]]) -> list[bool]:
    """For every link, whether the response assigns its first variable the right value, by the first "X = value"."""
    return [_states(text, link["symbol1"], link["value1"]) for link in links]


def _states(text: str, symbol: str, value: str) -> bool:
    name = re.escape(symbol) if symbol.startswith("\\") else rf"(?<![A-Za-z\\]){symbol}"
    found = re.search(name + VALUE, text)
    if found is None:
        return False
    stated = found["value"].rstrip(".)\\")
    if stated == value:
        return True
    try:
        return same_value(parse(stated), parse(value))
    except (Unreadable, ZeroDivisionError, TypeError):
        return False


def step_metrics(groups: Sequence[Group], reward: str) -> dict[str, float]:
    """Solve-all, solve-none and informative ratios, accuracy and length per depth, recovery of the linked values.

    `lucky`: share of the solved chains whose first linked value is not stated right; only the last answer is verified.
    """
    rates: dict[int, list[float]] = defaultdict(list)
    lengths: dict[int, list[int]] = defaultdict(list)
    first: list[bool] = []
    every: list[bool] = []
    lucky: list[bool] = []
    for group in groups:
        depth = int(composition(group).get("depth", 1))
        passed = passes(group, reward)
        if passed:
            rates[depth].append(float(np.mean(passed)))
        lengths[depth] += [trajectory.response_length for trajectory in group.trajectories]
        for index, trajectory in enumerate(group.trajectories):
            found = _recovery(trajectory, group)
            first += found[:1]
            every += found
            if found and _passed(group, index, reward):
                lucky.append(not found[0])
    metrics = _ratios([rate for values in rates.values() for rate in values])
    for depth, values in sorted(rates.items()):
        metrics[f"accuracy/depth_{depth}"] = float(np.mean(values))
        metrics |= {f"{name}/depth_{depth}": value for name, value in _ratios(values).items()}
    metrics |= {f"length/depth_{depth}": float(np.mean(values)) for depth, values in sorted(lengths.items()) if values}
    if first:
        metrics |= {"v1_recovered": float(np.mean(first)), "links_recovered": float(np.mean(every))}
    if lucky:
        metrics["lucky"] = float(np.mean(lucky))
    return metrics


def _recovery(trajectory: Trajectory, group: Group) -> list[bool]:
    return links_recovered(trajectory.text, composition(group).get("links", ()))


def _ratios(rates: Sequence[float]) -> dict[str, float]:
    if not rates:
        return {}
    all_, none = float(np.mean([rate == 1 for rate in rates])), float(np.mean([rate == 0 for rate in rates]))
    return {"solve_all": all_, "solve_none": none, "informative": 1 - all_ - none}


def reuse_metrics(uses: Mapping[str, int], seeds: int) -> dict[str, float]:
    """How evenly the seeds are used: share used at all, the most used one, and the histogram in powers of two."""
    counts = np.array(list(uses.values()), int)
    metrics = {"seeds/used": len(counts) / seeds, "seeds/reuse_max": float(counts.max(initial=0))}
    for low in (1, 2, 4, 8, 16, 32):
        high = 2 * low if low < 32 else np.iinfo(int).max
        metrics[f"seeds/reuse_{low}{'_up' if low == 32 else ''}"] = float(
            ((counts >= low) & (counts < high)).sum() / seeds
        )
    return metrics
