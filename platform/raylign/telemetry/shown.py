"""Numbers that a person follows while a run goes on, and how they are written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

BARS = "▁▂▃▄▅▆▇█"
REWARD = ("reward/mean", "eval/reward/mean")
# label, the metrics that it may be (the first that is there), format
SHOWN: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("reward", REWARD, ".3f"),
    ("score", ("eval/score",), ".3f"),
    ("loss", ("loss/policy", "loss/ce", "loss"), ".4f"),
    ("accuracy", ("rewards/accuracy", "agreement"), ".3f"),  # of the pairs of a step
    ("margin", ("rewards/margin", "margin"), ".3f"),
    ("held-out loss", ("eval/loss",), ".4f"),
    ("held-out accuracy", ("eval/rewards/accuracy", "eval/agreement"), ".3f"),
    ("held-out margin", ("eval/rewards/margin", "eval/margin"), ".3f"),
    ("ref KL", ("ref_kl",), ".1e"),
    ("step KL", ("approx_kl_k3",), ".1e"),
    ("entropy", ("entropy",), ".3f"),
    ("length", ("length/mean", "eval/length/mean"), ".1f"),
    ("gap", ("sampler_gap",), ".1e"),
    ("missing", ("missing/share", "eval/missing/share"), ".1%"),
    ("tokens/s", ("tokens/per_second",), ",.0f"),
)
NO_SETS = ("reward", "advantage", "source", "eval", "time")  # families whose score is that of no prompt set
LEARNING = ("loss", "reward/mean")  # metrics of a step that trains, which scores no prompt set
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1f\x7f]")


def shown_values(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """(label, formatted value) of the metrics that a person follows."""
    shown = []
    for label, names, form in SHOWN:
        value = first_of(metrics, names)
        if value is not None and (value or label != "missing"):  # what nothing is missing from needs no word
            shown.append((label, format(value, form)))
    return [*((name.replace("/", " "), f"{metrics[name]:.3f}") for name in set_scores(metrics)), *shown]


def set_scores(metrics: Mapping[str, object]) -> list[str]:
    """The scores of named prompt sets among the metrics of a step: ``<set>/score``."""
    if any(name in metrics for name in LEARNING):
        return []
    families = {name: name.removesuffix("/score") for name in metrics if name.endswith("/score")}
    return [name for name, family in families.items() if "/" not in family and family not in NO_SETS]


def evaluated(metrics: Mapping[str, object]) -> bool:
    """Whether a step brought an evaluation."""
    return any(name.startswith("eval/") for name in metrics) or bool(set_scores(metrics))


def first_of(metrics: Mapping[str, float], names: Sequence[str]) -> float | None:
    """The first of some metrics that is there."""
    return next((metrics[name] for name in names if name in metrics), None)


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The last values as bars, lowest to highest."""
    recent = [value for value in values if math.isfinite(value)][-width:]
    if not recent:
        return ""
    low, high = min(recent), max(recent)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in recent)


def duration(seconds: float) -> str:
    """``1:02:03``, ``4:05`` or ``7 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def printable(text: str) -> str:
    """A text without colours, cursor movements and other control characters; its lines stay lines."""
    return CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
