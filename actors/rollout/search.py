"""Searching while training data are collected: what every strategy of it shares (TSR, arXiv:2602.11767).

A search samples more than it keeps, scores what its environment says of each try, and hands on what it kept as ordinary
trajectories with the policy's own log-probs; what it discarded gives no gradient. Evaluations never search.

Simulations are forks of the live episode. With ``noise=live`` they meet the very chance that the episode will meet, so
that in an environment with chance the search is clairvoyant and its returns are flattered; with ``noise=fresh`` they
meet other chance and scores are means over `simulations` of them. Without chance the two are the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

import numpy as np

from raylign.actors.rollout.multi_turn import MultiTurn
from raylign.actors.rollout.path import Path, close_all
from raylign.actors.rollout.scores import TurnReward, TurnScorer
from raylign.config.build import build
from raylign.config.schema import Node, node
from raylign.contracts import Completion, Policy, RolloutTask
from raylign.environment import Environments
from raylign.records import Trajectory, derive_seed

T = TypeVar("T")


class Noise(Enum):
    """Random stream of simulated steps."""

    fresh = "fresh"  # one of their own
    live = "live"  # the episode's own


class Search(MultiTurn):
    """The base of all searches; used directly it runs plain episodes, with the same metrics."""

    @dataclass
    class Config(MultiTurn.Config):
        """How turns are scored and how candidates are simulated."""

        scorer: Node = node(TurnScorer, "raylign.actors.rollout.scores.TurnReward")
        released_score: bool = False  # the game's raw reward whatever `scorer` says, illegal turns out (released code)
        noise: Noise = Noise.fresh
        simulations: int = 1  # of each candidate under fresh noise; their scores are averaged

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.simulations < 1:
                raise ValueError(f"simulations is {self.simulations}, set it to 1 or more")
            if self.simulations > 1 and self.noise is Noise.live:
                raise ValueError("simulations under live noise are all the same: set noise=fresh or simulations=1")

    def __init__(self, config: Config, environments: Environments | None = None) -> None:
        """Raises ConfigError on a scorer that is none."""
        super().__init__(config, environments)
        self.config: Search.Config = config
        self.scorer = build(TurnScorer, config.scorer, "strategy.scorer")
        if config.released_score:
            self.scorer = TurnReward(TurnReward.Config(flag="game_reward", invalid=-1e6))

    async def episodes(self, task: RolloutTask, policy: Policy, index: int) -> list[Trajectory]:
        """The trajectories of one index of `starts`."""
        ledger = Ledger(self.scorer)
        try:
            paths = await self.search(task, policy, index, ledger)
            for number, path in enumerate(paths):
                path.index = index + number
            return [path.trajectory(ledger.metrics(path, paths)) for path in paths]
        finally:
            await close_all(ledger.opened)

    async def search(self, task: RolloutTask, policy: Policy, index: int, ledger: Ledger) -> list[Path]:
        """The finished paths that are kept, for the samples `index`, `index` + 1, ..."""
        path = await ledger.opening(self.begin(task, policy, index))
        return [await ledger.play(path)]


@dataclass(slots=True)
class Ledger:
    """What one search has sampled, simulated and decided so far, and the environments that it has opened."""

    scorer: TurnScorer
    opened: list[Path] = field(default_factory=list)
    tokens: int = 0
    calls: int = 0
    gains: list[float] = field(default_factory=list)  # of every decision: score of the chosen - mean of the candidates
    ties: list[float] = field(default_factory=list)  # share of pairs of candidates with the same score
    undecided: list[bool] = field(default_factory=list)  # whether equals fell on both sides of the cut
    invalid: list[bool] = field(default_factory=list)  # of every candidate
    gaps: list[float] = field(default_factory=list)  # of every turn taken: a simulation's score - what came of it
    optimism: list[float] = field(default_factory=list)  # the same of the score that the turn was chosen for

    async def opening(self, path: Awaitable[Path]) -> Path:
        """A new path, to be closed with the others whatever happens."""
        opened = await path
        self.opened.append(opened)
        return opened

    async def close(self, path: Path) -> None:
        """Close a path that was discarded."""
        self.opened.remove(path)
        await close_all([path])

    async def sample(self, path: Path, seed: int) -> Completion:
        """See `Path.sample`."""
        said = await path.sample(seed)
        self.tokens += len(said.token_ids)
        return said

    async def act(self, path: Path, said: Completion) -> float:
        """See `Path.act`; the score of the turn."""
        await path.act(said)
        self.calls += 1
        return self.scorer.score(path.calls[-1])

    async def play(self, path: Path, *branch: int | str) -> Path:
        """The path, played to its end without search. branch: see `Path.seed`."""
        while path.stop is None:
            await self.act(path, await self.sample(path, path.seed(*branch)))
        return path

    def decided(self, scores: Sequence[float], chosen: Sequence[float], left: Sequence[float]) -> None:
        """Note a decision. scores: of all candidates; chosen: of the candidates among what was kept; left: of
        everything that was not kept.
        """
        values = np.asarray(scores, np.float64)
        if chosen:
            self.gains.append(float(np.mean(chosen) - values.mean()))
        if len(values) > 1:
            same = int((values[:, None] == values[None]).sum()) - len(values)
            self.ties.append(same / (len(values) * (len(values) - 1)))
        if chosen and left:
            self.undecided.append(min(chosen) == max(left))

    def metrics(self, path: Path, returned: Sequence[Path]) -> dict[str, float]:
        """Of one of the paths that are kept: its own cost, its share of what was discarded, and what was decided."""
        tokens = {id(call): len(call.token_ids) for other in returned for call in other.calls}
        figures = {
            "search/env_calls_kept": float(len(path.calls)),
            "search/env_calls_discarded": (self.calls - len(tokens)) / len(returned),
            "search/tokens_kept": float(path.sampled),
            "search/tokens_discarded": (self.tokens - sum(tokens.values())) / len(returned),
        }
        noted: dict[str, Sequence[float]] = {
            "gain": self.gains,
            "ties": self.ties,
            "gap": self.gaps,
            "optimism": self.optimism,
        }
        noted |= {"undecided": self.undecided, "invalid": self.invalid}
        figures |= {f"search/{name}": float(np.mean(values)) for name, values in noted.items() if values}
        if self.gaps:
            figures["search/gap_squared"] = float(np.mean(np.square(self.gaps)))
        return figures


def shuffled(path: Path, count: int, purpose: str) -> list[int]:
    """0 .. `count` - 1 in a random order, seeded by the path's sample and turn."""
    seed = derive_seed(path.task.run_seed, path.task.prompt.key, path.index, len(path.calls), purpose)
    return [int(number) for number in np.random.default_rng(seed).permutation(count)]


async def together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """All results. The first error is raised once every call has ended, so that none opens an environment behind it."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]
