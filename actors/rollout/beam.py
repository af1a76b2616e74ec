"""Search turn by turn: candidates of every live prefix are tried out, the best prefixes go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from raylign.actors.rollout.path import Path
from raylign.actors.rollout.search import Ledger, Noise, Search, shuffled, together
from raylign.contracts import Completion, Policy, RolloutTask
from raylign.environment import Environments
from raylign.records import derive_seed


class Keep(Enum):
    """Which of the finished prefixes become trajectories."""

    best = "best"  # the best one; every sample is a search of its own
    all = "all"  # all of them, as the trajectories of `width` samples


@dataclass(slots=True)
class Prefix:
    """A path and the scores of its turns so far."""

    path: Path
    value: float


@dataclass(slots=True)
class Candidate:
    """A completion after a prefix, and its mean score in simulations."""

    prefix: Prefix
    said: Completion
    score: float  # of the turn, mean over simulations
    ahead: float  # of what may follow, mean over simulations; 0 where nothing is looked at

    @property
    def worth(self) -> float:
        """What candidates and finished prefixes are compared by."""
        return self.prefix.value + self.score + self.ahead


class Beam(Search):
    """B_{t+1} = Top_B { tau_t + a : tau_t in B_t, a in A_t } by cumulative score (TSR, arXiv:2602.11767).

    Every turn, `candidates` (M) turns are sampled after each live prefix and tried out in forks of its environment;
    together with the finished prefixes they are put in random order and sorted by score, and the best `width` (B)
    stand. Those that are new are then lived through in the episode's own environment. An episode ends when all prefixes
    are finished.

    The first candidate of the first prefix has the seed of the plain rollout, so M = B = 1 is the plain rollout.
    ``width=1`` with `released_score` is the form of the released code.
    """

    @dataclass
    class Config(Search.Config):
        """The size of the tree."""

        candidates: int = 4  # M
        width: int = 2  # B
        keep: Keep = Keep.best

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.candidates < 1 or self.width < 1:
                raise ValueError("candidates and width must be 1 or more")
            if self.keep is Keep.all and self.candidates < self.width:
                raise ValueError(
                    f"keep=all: the first turn has {self.candidates} candidates for {self.width} prefixes; raise "
                    "candidates or lower width"
                )

    def __init__(self, config: Config, environments: Environments | None = None) -> None:
        super().__init__(config, environments)
        self.config: Beam.Config = config

    def starts(self, task: RolloutTask) -> Sequence[int]:
        """See `MultiTurn.starts`."""
        if self.config.keep is Keep.best:
            return task.samples
        return sorted({index - index % self.config.width for index in task.samples})

    def made_by(self, task: RolloutTask, index: int) -> Sequence[int]:
        """See `MultiTurn.made_by`."""
        return range(index, index + self.config.width) if self.config.keep is Keep.all else (index,)

    async def search(self, task: RolloutTask, policy: Policy, index: int, ledger: Ledger) -> list[Path]:
        """See `Search.search`."""
        root = await ledger.opening(self.begin(task, policy, index))
        beam = [Prefix(root, 0.0)]
        while live := [prefix for prefix in beam if prefix.path.stop is None]:
            finished = [prefix for prefix in beam if prefix.path.stop is not None]
            calls = ((rank, number) for rank in range(len(live)) for number in range(self.config.candidates))
            candidates = await together(self._candidate(ledger, live[rank], rank, number) for rank, number in calls)
            chosen = self._best([*finished, *candidates], live[0].path, ledger)
            beam = await self._advance(ledger, chosen)
            for prefix in (*live, *finished):
                if all(prefix.path is not survivor.path for survivor in beam):
                    await ledger.close(prefix.path)
        beam.sort(key=lambda prefix: -prefix.value)
        return [prefix.path for prefix in beam][: None if self.config.keep is Keep.all else 1]

    async def ahead(self, ledger: Ledger, after: Path, branch: tuple[int, ...]) -> float:
        """Estimated further score of the path that a simulation reached. branch: seeds its sampling."""
        return 0.0

    async def _candidate(self, ledger: Ledger, prefix: Prefix, rank: int, number: int) -> Candidate:
        """Sample a candidate and simulate it. rank: of its prefix among the live ones."""
        branch = (rank, number) if rank or number else ()
        said = await ledger.sample(prefix.path, prefix.path.seed(*branch))
        numbers = range(self.config.simulations)
        scores = await together(self._simulate(ledger, prefix.path, said, (rank, number, run)) for run in numbers)
        score, ahead = np.mean(scores, axis=0)
        return Candidate(prefix, said, float(score), float(ahead))

    async def _simulate(
        self, ledger: Ledger, path: Path, said: Completion, branch: tuple[int, int, int]
    ) -> tuple[float, float]:
        """Score of a turn in a fork of its environment, and `ahead` of it. All candidates share the noise of run i."""
        fork = await ledger.opening(path.fork(self._noise(path, branch[2])))
        score = await ledger.act(fork, said)
        if not branch[2]:
            ledger.invalid.append(not fork.calls[-1].flags.get("valid", True))
        ahead = await self.ahead(ledger, fork, branch)
        await ledger.close(fork)
        return score, ahead

    def _noise(self, path: Path, run: int | str) -> int | None:
        """Seed of the noise of simulation `run` of the next turn; None: the episode's own."""
        if self.config.noise is Noise.live:
            return None
        return derive_seed(path.task.run_seed, path.task.prompt.key, path.index, len(path.calls), "simulation", run)

    def _best(self, pool: list[Prefix | Candidate], path: Path, ledger: Ledger) -> list[Prefix | Candidate]:
        """The `width` best of finished prefixes and candidates, ties broken at random (seeded)."""
        worth = [entry.worth if isinstance(entry, Candidate) else entry.value for entry in pool]
        order = sorted(shuffled(path, len(pool), "beam"), key=lambda number: -worth[number])
        best, left = order[: self.config.width], order[self.config.width :]
        fresh = [number for number in best if isinstance(pool[number], Candidate)]
        scores = [entry.worth for entry in pool if isinstance(entry, Candidate)]
        ledger.decided(scores, [worth[number] for number in fresh], [worth[number] for number in left])
        return [pool[number] for number in best]

    async def _advance(self, ledger: Ledger, chosen: Sequence[Prefix | Candidate]) -> list[Prefix]:
        """The next beam: each chosen completion steps its prefix's environment, or a fork of it where the prefix has
        another child already.
        """
        paths, taken = [], set[int]()
        for choice in chosen:
            path = choice.path if isinstance(choice, Prefix) else choice.prefix.path
            if id(path) in taken:
                path = await ledger.opening(path.fork())
            taken.add(id(path))
            paths.append(path)
        return await together(self._step(ledger, choice, path) for choice, path in zip(chosen, paths, strict=True))

    async def _step(self, ledger: Ledger, choice: Prefix | Candidate, path: Path) -> Prefix:
        if isinstance(choice, Prefix):
            return choice
        probe = choice.score
        if self.config.noise is Noise.fresh:  # the score it was chosen for is the best of several: not a fair forecast
            fork = await ledger.opening(path.fork(self._noise(path, "probe")))
            probe = await ledger.act(fork, choice.said)
            await ledger.close(fork)
        score = await ledger.act(path, choice.said)
        ledger.gaps.append(probe - score)
        ledger.optimism.append(choice.score - score)
        return Prefix(path, choice.prefix.value + score)
