"""Candidates judged by the best that a few sampled turns after them can reach."""

from __future__ import annotations

from dataclasses import dataclass

from raylign.actors.rollout.beam import Beam
from raylign.actors.rollout.path import Path
from raylign.actors.rollout.search import Ledger, together
from raylign.environment import Environments


class Lookahead(Beam):
    """S(a) = score(a) + max over continuations of the sum of their scores (TSR, arXiv:2602.11767).

    After each simulation of a candidate, `continuations` forks of it go on for up to `depth` sampled turns, under the
    chance of that simulation. With `width` above 1 it is a beam that looks ahead.
    """

    @dataclass
    class Config(Beam.Config):
        """How far and how often."""

        width: int = 1
        depth: int = 2  # D
        continuations: int = 4  # M of the continuations

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.depth < 1 or self.continuations < 1:
                raise ValueError("depth and continuations must be 1 or more")

    def __init__(self, config: Config, environments: Environments | None = None) -> None:
        super().__init__(config, environments)
        self.config: Lookahead.Config = config

    async def ahead(self, ledger: Ledger, after: Path, branch: tuple[int, ...]) -> float:
        """See `Beam.ahead`."""
        if after.stop is not None:
            return 0.0
        numbers = range(self.config.continuations)
        return max(await together(self._continue(ledger, after, (*branch, number)) for number in numbers))

    async def _continue(self, ledger: Ledger, after: Path, branch: tuple[int, ...]) -> float:
        path, total = await ledger.opening(after.fork()), 0.0
        origin = len(path.calls)
        for _ in range(self.config.depth):
            if path.stop is not None:
                break
            said = await ledger.sample(path, path.seed("ahead", origin, *branch))
            total += await ledger.act(path, said)
        await ledger.close(path)
        return total
