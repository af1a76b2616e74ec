"""How much a conversion rate is worth: against what is usual in its industry, against the group, or as it is."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path

import numpy as np
import orjson

from raylign.errors import DataError


class Scale(Enum):
    """What the conversion reward R counts as.

    frozen: (R - mu) / s, mu and s those of the prompt's domain under the policy that training starts from, within
    [-clip, clip]. rank: its place in the group, from 0 (least) to 1; equal ones share theirs. none: R.
    """

    frozen = "frozen"
    rank = "rank"
    none = "none"


def frozen_statistics(path: str, reward: str) -> dict[str, tuple[float, float]]:
    """(mean, std) of a reward by domain; under "" those of all prompts, for domains that were not measured.

    path: a file of `Calibrate`. Raises DataError on one that lacks them, and where nothing varies.
    """
    fix = "fix: name the statistics that a Calibrate stage left"
    try:
        whole = orjson.loads(Path(path).read_bytes())["rewards"][reward]
        parts = {"": whole, **whole.get("domains", {})}
        frozen = {name: (float(part["mean"]), float(part["std"])) for name, part in parts.items() if part["count"]}
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise DataError(f"{path} has no statistics of {reward}: {cause!r}; {fix}") from cause
    for name, (_, std) in frozen.items():
        if not std > 0:
            where = f"domain {name!r}" if name else "all domains together"
            fix = "fix: measure more, or set the shaper's scale=rank"
            raise DataError(f"{path}: {reward} does not vary in {where}; {fix}")
    return frozen


def scaled(values: Sequence[float], mean: float, std: float, clip: float) -> list[float]:
    """(R - mean) / std within [-clip, clip]."""
    return [float(min(max((value - mean) / std, -clip), clip)) for value in values]


def ranks(values: Sequence[float]) -> list[float]:
    """Places from 0 (least) to 1 (most), 0 for a single value; equal values share the mean of theirs."""
    numbers = np.array(values, np.float64)
    below = (numbers[None, :] < numbers[:, None]).sum(axis=1)
    equal = (numbers[None, :] == numbers[:, None]).sum(axis=1) - 1
    places: list[float] = ((below + equal / 2) / max(1, len(numbers) - 1)).tolist()
    return places
