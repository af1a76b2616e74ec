"""What a reward pool has done since it was last asked, as metrics of a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Figures:
    """Counts of one pool. Latency: seconds from `submit` to the reward, waiting and retries included.

    Example: ``figures.scored(0.2); figures.metrics("math")["reward_pool/math/latency_max_s"]`` is 0.2
    """

    items: int = 0
    rpcs: int = 0
    restarts: int = 0  # actors that died or hung and were replaced
    children: int = 0  # processes of isolated functions that were ended at a deadline, or died, and were replaced
    latency_sum: float = 0.0
    latency_max: float = 0.0
    missing: Counter[str] = field(default_factory=Counter)  # kind of failure -> items

    def scored(self, latency: float) -> None:
        """Count an item that has its rewards, missing ones included."""
        self.items += 1
        self.latency_sum += latency
        self.latency_max = max(self.latency_max, latency)

    def metrics(self, name: str) -> dict[str, float]:
        """``restarts/reward/<name>``, and if there were items ``reward_pool/<name>/`` items, rpcs, children,
        latency_mean_s, latency_max_s, missing, and missing_<kind> of each kind of failure that occurred.
        """
        metrics = {f"restarts/reward/{name}": float(self.restarts)}
        if self.items:
            figures = {
                "items": float(self.items),
                "rpcs": float(self.rpcs),
                "children": float(self.children),
                "latency_mean_s": self.latency_sum / self.items,
                "latency_max_s": self.latency_max,
                "missing": float(self.missing.total()),
                **{f"missing_{kind}": float(count) for kind, count in self.missing.items()},
            }
            metrics |= {f"reward_pool/{name}/{figure}": value for figure, value in figures.items()}
        return metrics
