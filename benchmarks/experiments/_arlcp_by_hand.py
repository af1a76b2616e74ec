"""Experiment E of ARLCP: counts, statistics and rewards by plain arithmetic, from the texts and tokens of logged rows.

Nothing of the recipe is called.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def facts_of(row: Mapping[str, Any]) -> dict[str, float]:
    """RTC, LEN and C of one answer of the toy, read off its text and its tokens."""
    text, asked = row["text"], row["messages"][-1]["content"]
    thought, closed, answer = text.partition("</think>")
    boxes = re.findall(r"\\boxed\{([^{}]*)\}", answer)
    well_formed = bool(closed) and "</think>" not in answer and "<think>" not in text
    enough = sum(_alone(thought, mark) for mark in "~.") >= ord(asked[4]) - ord("A") + 1
    right = well_formed and enough and bool(boxes) and boxes[-1].strip() == asked[5]
    length = sum(len(turn["token_ids"]) for turn in row["turns"])
    return {"reflections": _alone(text, "~"), "length": length, "correct": float(right)}


def by_hand(answers: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """The paper's equations for one group, answer by answer, with the toy's tiers (6 and 12)."""
    pool = [facts for facts in answers if facts["correct"]]
    mean, std = {}, {}
    for name in ("reflections", "length"):
        values = [facts[name] for facts in pool]
        mean[name] = statistics.fmean(values) if values else 0.0
        std[name] = statistics.stdev(values) if len(values) > 1 else 1.0
    expected = []
    for facts in answers:
        f = {name: 0.5 + 0.5 * math.tanh((facts[name] - mean[name]) / (std[name] + 1e-6) / 2) for name in mean}
        tier = 0 if facts["reflections"] <= 6 else 1 if facts["reflections"] <= 12 else 2
        share = (0.05, 0.10, 0.15)[tier]
        reward = facts["correct"] * (1 - share * f["reflections"] - (0.2 - share) * f["length"])
        statistic = {f"mean_{name}": mean[name] for name in mean} | {f"std_{name}": std[name] for name in std}
        terms = {"tier": tier, "f_reflection": f["reflections"], "f_length": f["length"], "reward": reward}
        expected.append(statistic | terms)
    return expected


def _alone(text: str, mark: str) -> int:
    """How often a mark stands between characters that are neither letters nor digits."""
    around = f" {text} "
    sides = [(around[i - 1], around[i + 1]) for i, letter in enumerate(around) if letter == mark]
    return sum(not any(side.isalnum() or side == "_" for side in pair) for pair in sides)
