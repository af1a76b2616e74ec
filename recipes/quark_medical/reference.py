"""Reference-Frozen Normalization: rewards in units of the policy that training starts from.

    r~_k = clip((r_k - mu_k) / max(sigma_k, epsilon * range_k), -c, c)

mu, sigma and range are those of the `Calibrate` stage's file, read once; 0 is as good as the reference, 1 a standard
deviation of the reference better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from raylign.errors import ConfigError, Problem, RewardError
from raylign.recipes.quark_medical.table import Float64s, RewardTable


@dataclass
class Scaling:
    """How statistics become a scale. All values are [inferred] from the method's name."""

    clip: float = 5.0  # c
    epsilon: float = 1e-3  # of the reward's range: the least sigma
    ranges: dict[str, float] = field(default_factory=dict)  # by reward; others: what the reference showed, or else 1
    domains: bool = False  # mu and sigma of the prompt's domain, in place of all prompts

    def __post_init__(self) -> None:
        if self.clip <= 0 or self.epsilon <= 0:
            raise ValueError(f"clip={self.clip}, epsilon={self.epsilon}: set both above 0")
        if wrong := [name for name, width in self.ranges.items() if not (width > 0 and np.isfinite(width))]:
            raise ValueError(f"ranges of {', '.join(wrong)}: a range is above 0 and finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Of one reward. Example: ``Scale(mean=0.3, std=0.4, floored=False)``"""

    mean: float
    std: float
    floored: bool  # std is the least one: the reference hardly varies


class Reference:
    """The frozen statistics of some rewards."""

    def __init__(self, path: str, names: Sequence[str], scaling: Scaling) -> None:
        """Raises ConfigError on a file that holds none, or not of these rewards."""
        if problems := statistics_problems("statistics", path, names):
            raise ConfigError(problems)
        self.names, self.scaling = tuple(names), scaling
        self._of = read_statistics(path)
        self.whole = {name: self._scale(name, self._of[name]) for name in names}
        self._domains: dict[str, dict[str, Scale]] = {}

    @property
    def floored(self) -> list[str]:
        """Rewards whose deviation is the least one."""
        return [name for name, scale in self.whole.items() if scale.floored]

    def normalized(self, table: RewardTable) -> Float64s:
        """[S, K] r~ of the table's rewards, NaN where it has none.

        Raises RewardError, where `domains` is on, on a domain that was not calibrated.
        """
        if table.names != self.names:
            raise ValueError(f"a table of {table.names}, and statistics of {self.names}")
        scales = [self.scales(domain) for domain in table.domains]
        mean = np.array([[scale[name].mean for name in self.names] for scale in scales]).reshape(-1, len(self.names))
        std = np.array([[scale[name].std for name in self.names] for scale in scales]).reshape(-1, len(self.names))
        values = (table.raw - mean[table.groups]) / std[table.groups]
        return np.asarray(np.clip(values, -self.scaling.clip, self.scaling.clip))

    def scales(self, domain: str) -> Mapping[str, Scale]:
        """By reward, for prompts of a domain."""
        if not self.scaling.domains:
            return self.whole
        if domain not in self._domains:
            self._domains[domain] = {name: self._scale(name, self._in_domain(name, domain)) for name in self.names}
        return self._domains[domain]

    def _in_domain(self, name: str, domain: str) -> Mapping[str, Any]:
        """Raises RewardError where it was not calibrated; a file of prompts of one domain does not say of which."""
        by_domain: Mapping[str, Any] = self._of[name].get("domains", {})
        found: Mapping[str, Any] = by_domain.get(domain, {})
        if found.get("count", 0) < 2:
            known = ", ".join(by_domain) or "prompts of one domain"
            raise RewardError(
                f"reward {name} has no two calibrated values of domain {domain!r}, only of {known}; "
                "fix: calibrate on prompts of all domains, or set scaling.domains=false"
            )
        return found

    def _scale(self, name: str, of: Mapping[str, Any]) -> Scale:
        quantiles = self._of[name]["quantiles"]
        width = self.scaling.ranges.get(name) or float(quantiles["1"]) - float(quantiles["0"]) or 1.0
        least, std = self.scaling.epsilon * width, float(of["std"])
        return Scale(mean=float(of["mean"]), std=max(std, least), floored=std < least)


def read_statistics(path: str) -> dict[str, dict[str, Any]]:
    """Statistics by reward, as `Calibrate` left them. Raises OSError, ValueError or KeyError on anything else."""
    content = orjson.loads(Path(path).read_bytes())
    if not isinstance(content, dict) or not isinstance(content.get("rewards"), dict):
        raise ValueError("no statistics of rewards in it")
    for name, of in content["rewards"].items():
        numbers = [of["mean"], of["std"], of["quantiles"]["0"], of["quantiles"]["1"]]
        if not all(isinstance(number, int | float) and np.isfinite(number) for number in numbers):
            raise ValueError(f"the statistics of {name} are not finite numbers")
        if of["std"] < 0:
            raise ValueError(f"the deviation of {name} is {of['std']}")
    return dict(content["rewards"])


def statistics_problems(key: str, path: str, names: Sequence[str]) -> list[Problem]:
    """What is wrong with a file of statistics for rewards of these names."""
    fix = "name the statistics that a Calibrate stage left, e.g. '@calibrate'"
    try:
        known = read_statistics(path)
    except (OSError, ValueError, KeyError, TypeError) as cause:
        why = f"holds no statistics of a Calibrate stage ({type(cause).__name__}: {cause})"
        return [Problem(key=key, value=path, why=why, fix=fix)]
    if all(name in known for name in names):
        return []
    why = f"has statistics of {', '.join(sorted(known))}; the rewards with a weight are {', '.join(sorted(names))}"
    return [Problem(key=key, value=path, why=why, fix="calibrate these rewards, or give the others weight 0")]
