"""The best of several whole episodes per sample."""

from __future__ import annotations

from dataclasses import dataclass

from raylign.actors.rollout.path import Path
from raylign.actors.rollout.search import Ledger, Noise, Search, shuffled, together
from raylign.contracts import Policy, RolloutTask
from raylign.environment import Environments
from raylign.records import derive_seed


class BestOfN(Search):
    """N episodes per sample; the one with the highest sum of turn scores is kept, ties at random (TSR, published form).

    The first episode is that of the plain rollout. With fresh noise every further one meets chance of its own. What the
    released code does instead (32 episodes of a group, of which 16 are kept) is `MultiTurn` with the selector `TopK`.
    """

    @dataclass
    class Config(Search.Config):
        """How many; `simulations` has no meaning here."""

        attempts: int = 4

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.attempts < 1:
                raise ValueError(f"attempts is {self.attempts}, set it to 1 or more")

    def __init__(self, config: Config, environments: Environments | None = None) -> None:
        super().__init__(config, environments)
        self.config: BestOfN.Config = config

    async def search(self, task: RolloutTask, policy: Policy, index: int, ledger: Ledger) -> list[Path]:
        """See `Search.search`."""
        numbers = range(self.config.attempts)
        paths = await together(self._attempt(task, policy, index, number, ledger) for number in numbers)
        totals = [sum(self.scorer.score(call) for call in path.calls) for path in paths]
        order = sorted(shuffled(paths[0], len(paths), "best of n"), key=lambda number: -totals[number])
        ledger.decided(totals, [totals[order[0]]], [totals[number] for number in order[1:]])
        ledger.invalid += [not call.flags.get("valid", True) for path in paths for call in path.calls]
        return [paths[order[0]]]

    async def _attempt(self, task: RolloutTask, policy: Policy, index: int, number: int, ledger: Ledger) -> Path:
        path = await ledger.opening(self.begin(task, policy, index))
        if not number:
            return await ledger.play(path)
        if self.config.noise is Noise.fresh:
            await path.episode.reseed(derive_seed(task.run_seed, task.prompt.key, index, "world", number))
        return await ledger.play(path, "attempt", number)
