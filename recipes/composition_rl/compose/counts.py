"""What became of the pairs that were to be composed, and how often each seed was used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from .chain import ChainOrRejected, Reason, Rejected

YIELD, REJECTED = "composer/yield", "composer/rejected/"  # names of metrics; a reason follows the second
REUSE = (1, 2, 4, 8, 16, 32)  # lower ends of the histogram's bins


def outcome(result: ChainOrRejected) -> dict[str, float]:
    """Of one chain that was asked for: 1 for what became of it, 0 for what else could have; their means are shares."""
    rejected = result.reason if isinstance(result, Rejected) else None
    return {YIELD: float(rejected is None)} | {f"{REJECTED}{reason}": float(reason is rejected) for reason in Reason}


class CompositionCounts:
    """Counts chains that were asked for, those that were dropped by reason, and the uses of each seed."""

    def __init__(self) -> None:
        self.asked = 0
        self.rejected: Counter[str] = Counter()
        self.uses: Counter[str] = Counter()

    def count(self, *results: ChainOrRejected) -> None:
        """Count results. A seed by itself was not composed, and only its use counts."""
        for result in results:
            if isinstance(result, Rejected):
                self.rejected[result.reason.value] += 1
            else:
                self.uses.update(result.seeds)
            self.asked += isinstance(result, Rejected) or result.depth > 1

    def shares(self) -> dict[str, float]:
        """Cumulative: chains asked for, the share that was made, and that of each reason; empty before the first."""
        if not self.asked:
            return {}
        lost = sum(self.rejected.values())
        shares = {f"{REJECTED}{why}": count / self.asked for why, count in sorted(self.rejected.items())}
        return shares | {"composer/asked": float(self.asked), YIELD: 1 - lost / self.asked}

    def reuse(self, seeds: int) -> dict[str, float]:
        """How evenly that many seeds are used: share used at all, the most used one, a histogram by powers of two."""
        counts = np.array(list(self.uses.values()), int)
        metrics = {"seeds/used": len(counts) / seeds, "seeds/reuse_max": float(counts.max(initial=0))}
        for low in REUSE:
            open_end = low == REUSE[-1]
            within = (counts >= low) & (open_end | (counts < 2 * low))
            metrics[f"seeds/reuse_{low}{'_up' if open_end else ''}"] = float(within.sum() / seeds)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Everything that a restart needs, in JSON types."""
        return {"asked": self.asked, "rejected": dict(self.rejected), "uses": dict(self.uses)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.asked, self.rejected = int(state["asked"]), Counter(state["rejected"])
        self.uses = Counter(state["uses"])
