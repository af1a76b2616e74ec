"""What every experiment leaves behind: its numbers beside their thresholds, as JSON and as a table.

An experiment collects `Claim`s and ends with ``sys.exit(0 if write(slug, claims, settings) else 1)``. The file is
rewritten as a whole, so it always describes one run: the commit, the machine, the settings and every claim.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
REAL, SIMULATED = "real actors", "simulated"  # what a claim is about, in its note


class Relation(StrEnum):
    """How a value must stand to its threshold."""

    AT_LEAST = ">="
    ABOVE = ">"
    AT_MOST = "<="
    BELOW = "<"
    EQUAL = "=="
    WITHIN = "within"  # threshold = [low, high], both included
    REPORT = "report"  # a figure without a threshold: always passes


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One number and what it must be. `relation` is a `Relation` or its text; what is not finite fails everything
    but `report`.

    `note` says where the threshold comes from, or what the figure was over (seeds, splits).

    Example: ``Claim(name="C/pessimistic gain", value=.18, threshold=.10, relation=">=", note="worst of 5 splits")``
    """

    name: str
    value: float
    threshold: float | tuple[float, float] | None = None
    relation: str = Relation.REPORT
    note: str = ""

    def __post_init__(self) -> None:
        relation = Relation(self.relation)
        if (relation is Relation.REPORT) != (self.threshold is None):
            raise ValueError(f"{self.name}: relation {relation} and threshold {self.threshold} do not go together")
        if (relation is Relation.WITHIN) != isinstance(self.threshold, tuple):
            raise ValueError(f"{self.name}: a pair of thresholds goes with relation 'within' and with no other")

    @property
    def passed(self) -> bool:
        """Whether the value stands to the threshold as it must."""
        value, limit = float(self.value), self.threshold
        if limit is None:
            return True
        if not math.isfinite(value):
            return False
        if isinstance(limit, tuple):
            return limit[0] <= value <= limit[1]
        return {
            Relation.AT_LEAST: value >= limit,
            Relation.ABOVE: value > limit,
            Relation.AT_MOST: value <= limit,
            Relation.BELOW: value < limit,
            Relation.EQUAL: value == limit,
        }[Relation(self.relation)]


def positive(name: str, gains: Iterable[float], note: str = "", how: str = REAL) -> Claim:
    """A gain that must be above 0 by two standard errors over seeds: the value is its mean less these.

    Where a digest's threshold is not calibrated, this is the gate, and `note` names the wish. One seed proves nothing
    (NaN).
    """
    values = [float(gain) for gain in gains]
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    mean = statistics.fmean(values)
    words = f"mean {mean:.3f} less two standard errors of {error:.4f} (seeds {by_seed(values)})"
    return Claim(
        name=name, value=mean - 2 * error, threshold=0, relation=">", note="; ".join(filter(None, [words, note, how]))
    )


def largest(values: Iterable[SupportsFloat]) -> float:
    """Of some figures; NaN where one is (`max` passes over it)."""
    return float(np.max([float(value) for value in values]))


def least(values: Iterable[SupportsFloat]) -> float:
    """Of some figures; NaN where one is (`min` passes over it)."""
    return float(np.min([float(value) for value in values]))


def by_seed(values: Iterable[float]) -> str:
    """Example: ``"0.125, 0.250"``"""
    return ", ".join(f"{value:.3f}" for value in values)


def write(
    slug: str,
    claims: Sequence[Claim],
    settings: Mapping[str, Any],
    folder: Path | None = None,
    started: float | None = None,
) -> bool:
    """Write ``outputs/experiments/<slug>.json``, print the table, and say whether every claim holds.

    settings: seeds, sizes, overrides: what is needed to run the same again. folder: another place for the file.
    started: ``time.time()`` at the start of the experiment, for its duration. Raises ValueError without any claim that
    has a threshold, and on two claims of one name.
    """
    names = [claim.name for claim in claims]
    if len(set(names)) != len(names):
        raise ValueError(f"claims with the same name: {sorted({name for name in names if names.count(name) > 1})}")
    if all(claim.threshold is None for claim in claims):
        raise ValueError("no claim has a threshold: nothing would be tested")
    passed = all(claim.passed for claim in claims)
    path = (folder or ROOT / "outputs" / "experiments") / f"{slug}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "slug": slug,
        "passed": passed,
        "commit": commit(),
        "machine": {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()},
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seconds": None if started is None else round(time.time() - started, 1),
        "settings": dict(settings),
        "claims": [{**asdict(claim), "value": float(claim.value), "passed": claim.passed} for claim in claims],
    }
    staging = path.with_suffix(".writing")
    staging.write_text(json.dumps(report, indent=2, default=str) + "\n")
    os.replace(staging, path)
    print(table(claims))
    held = sum(claim.passed for claim in claims if claim.threshold is not None)
    total = sum(claim.threshold is not None for claim in claims)
    print(f"{slug}: {held} of {total} claims hold -> {'PASS' if passed else 'FAIL'}   {path}")
    return passed


def table(claims: Sequence[Claim]) -> str:
    """The claims as aligned text, one a line."""
    rows = [("", "claim", "value", "must be", "note")]
    for claim in claims:
        mark = "-" if claim.threshold is None else ("pass" if claim.passed else "FAIL")
        limit = "" if claim.threshold is None else f"{claim.relation} {_text(claim.threshold)}"
        rows.append((mark, claim.name, _text(claim.value), limit, claim.note))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(row[i].ljust(widths[i]) for i in range(4)), row[4]]).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _text(value: float | tuple[float, float]) -> str:
    return f"[{value[0]:g}, {value[1]:g}]" if isinstance(value, tuple) else f"{float(value):.4g}"


def commit() -> str:
    """The commit that was run, with a plus sign when the tree differs from it; empty outside a repository."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
