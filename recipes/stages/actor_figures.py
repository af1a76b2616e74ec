"""What the actors of a run, and the driver's event loop, did since it was last recorded."""

from __future__ import annotations

from collections.abc import Callable

from raylign.actors.reward.pools import RewardPools
from raylign.actors.rollout.pool import VllmRolloutPool
from raylign.loop_lag import LoopLag


class ActorFigures:
    """Metrics of the actors that there are, from one record to the next.

    event: is told of restarts, as `Recorder.event` is.
    """

    def __init__(self, event: Callable[..., None]) -> None:
        self.lag: LoopLag | None = None  # of the event loop that the stages run on
        self._event = event
        self._pool: VllmRolloutPool | None = None
        self._rebuilt = 0  # workers of that pool, as far as recorded

    def take(self, stage: str, rollouts: VllmRolloutPool | None, *scoring: RewardPools | None) -> dict[str, float]:
        """``loop/lag_max_s``, ``restarts/<role>``, ``workers/rollout``, and `RewardPools.metrics`."""
        metrics = {} if self.lag is None else {"loop/lag_max_s": self.lag.take()}
        for pools in scoring:
            metrics |= {} if pools is None else pools.metrics()
        if rollouts is not None:
            before = self._rebuilt if rollouts is self._pool else 0
            self._pool, self._rebuilt = rollouts, rollouts.restarts
            metrics |= {
                "restarts/rollout": float(self._rebuilt - before),
                "workers/rollout": float(rollouts.alive),
            }
        for name, count in metrics.items():
            if name.startswith("restarts/") and count:
                role = name.removeprefix("restarts/")
                self._event("actors_restarted", stage=stage, role=role, count=int(count))
        return metrics
