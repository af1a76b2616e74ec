"""Where the groups of a step come from: all at once, or from rollouts that run ahead of the learner.

    source --prompts--> in flight --groups--> finished --take--> loop
               ^ room          | stale: cancelled, counted, begun again
               +---------------+---- published(version)

One number decides: the staleness k. While policy version v is live, at most (v + k + 1) * prompts_per_step groups have
been begun (AReaL, arXiv:2505.24298, eq. 3), and none that was begun before version v - k is learned from. With k = 0
every group of a step is begun and ended under one version: the synchronous mode, bit for bit.
"""

from __future__ import annotations

import asyncio
import pickle
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from raylign import plain
from raylign.contracts import PromptSource, RewardPools, RolloutPool, RolloutTask
from raylign.errors import CheckpointError, EngineDeadError
from raylign.loop.collect import Collected, collect
from raylign.loop.settings import LoopSettings
from raylign.payloads import referred, whole
from raylign.records import Group, Prompt, Trajectory

FILE = "rollouts.pickle"


@dataclass(slots=True, eq=False)
class _Flight:
    """A group that is being rolled out and rewarded."""

    number: int  # order in which groups were begun
    prompt: Prompt
    version: int  # live when it was begun
    job: asyncio.Task[Collected]


@dataclass(slots=True)
class _Finished:
    number: int
    version: int
    collected: Collected


@dataclass(slots=True)
class _Counts:
    begun: int = 0  # net of those that were begun again or whose room was given back
    stale: int = 0  # cancelled or thrown away, of this step
    ages: list[int] = field(default_factory=list)  # versions between a group's start and its use


class RolloutBuffer:
    """Hands out finished groups; keeps as many in flight as the staleness allows."""

    def __init__(
        self, source: PromptSource, rollouts: RolloutPool, rewards: RewardPools, settings: LoopSettings
    ) -> None:
        self.settings = settings
        self._source, self._rollouts, self._rewards = source, rollouts, rewards
        self._version = 0
        self._numbers = 0
        self._flights: set[_Flight] = set()
        self._leaving: set[asyncio.Task[Collected]] = set()  # cancelled, and not yet ended
        self._finished: deque[_Finished] = deque()
        self._again: deque[Prompt] = deque()  # begun before and not done: first in line
        self._news = asyncio.Event()
        self._counts = _Counts()

    @property
    def ahead(self) -> bool:
        """Whether rollouts go on while the learner learns."""
        return self.settings.step.staleness > 0

    async def take(self, n: int, generated: Callable[[], None] = lambda: None) -> Collected:
        """n groups, in the order in which they were begun.

        generated: called when nothing but rewards is outstanding (synchronous) or all n are there. Raises
        EngineDeadError when no group ends within `stall_s`.
        """
        if not self.ahead:
            return await self._collect([*self._prompts(n)], generated)
        while True:
            self._fill()
            self._refuse_stale()
            if len(self._finished) >= n:
                break
            await self._wait()
        generated()
        taken = sorted((self._finished.popleft() for _ in range(n)), key=lambda entry: entry.number)
        self._counts.ages += [self._version - entry.version for entry in taken]
        return _joined([entry.collected for entry in taken])

    def replace(self, groups: int) -> None:
        """So many of the groups taken will not be learned from: others may be begun in their place."""
        self._counts.begun -= groups

    def published(self, version: int) -> None:
        """A new policy is live: there is room for further groups, and what is too old by now is begun again."""
        self._version = version
        self._refuse_stale()
        if self.ahead:
            self._fill()

    def metrics(self) -> dict[str, float]:
        """Of the groups taken since the last call; empty in the synchronous mode."""
        if not self.ahead:
            return {}
        counts, ages = self._counts, self._counts.ages
        metrics = {
            "async/in_flight": float(len(self._flights)),
            "async/finished": float(len(self._finished)),
            "async/stale_groups": float(counts.stale),
        }
        if ages:
            metrics |= {"async/staleness": float(np.mean(ages)), "async/staleness_max": float(np.max(ages))}
        counts.stale, counts.ages = 0, []
        return metrics

    async def close(self) -> None:
        """Cancel what is in flight."""
        for flight in self._flights:
            self._cancel(flight)
        self._flights.clear()
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def save(self, folder: Path) -> None:
        """Write what is finished but not taken, payloads with their content, and which prompts are in flight."""
        if self.ahead:
            flights = sorted(self._flights, key=lambda flight: flight.number)
            again = [*self._again, *(flight.prompt for flight in flights)]
            finished = [(entry.number, entry.version, entry.collected) for entry in self._finished]
            state = {"numbers": self._numbers, "again": again, "finished": finished}
            await asyncio.to_thread(_write, folder / FILE, state)

    def restore(self, folder: Path, version: int) -> None:
        """Go on from what `save` wrote: finished groups are kept, those that were in flight are begun again.

        Raises CheckpointError when the checkpoint was made synchronously.
        """
        self._version = version
        if not self.ahead:
            if (folder / FILE).exists():
                raise CheckpointError(
                    "the checkpoint has groups in flight; resume it with the staleness it was made with"
                )
            return
        if not (folder / FILE).exists():
            self._counts.begun = version * self.settings.step.prompts_per_step
            return
        state: dict[str, Any] = plain.loads((folder / FILE).read_bytes())
        self._numbers = state["numbers"]
        self._again = deque(state["again"])
        entries = [(number, version, _each(groups, referred)) for number, version, groups in state["finished"]]
        self._finished = deque(_Finished(*entry) for entry in entries)
        self._counts.begun = version * self.settings.step.prompts_per_step + len(self._finished)

    # ---------------------------------------------------------------------------------------------- within the buffer

    def _prompts(self, n: int) -> Sequence[Prompt]:
        again = [self._again.popleft() for _ in range(min(n, len(self._again)))]
        return [*again, *(self._source.next(n - len(again)) if n > len(again) else ())]

    def _fill(self) -> None:
        """Begin as many groups as the capacity leaves room for."""
        settings = self.settings.step
        horizon = self._version + settings.staleness + 1
        horizon = min(horizon, settings.steps) if settings.steps else horizon
        for prompt in self._prompts(max(0, horizon * settings.prompts_per_step - self._counts.begun)):
            self._counts.begun += 1
            job = asyncio.create_task(self._collect([prompt]))
            flight = _Flight(number=self._numbers, prompt=prompt, version=self._version, job=job)
            self._numbers += 1
            self._flights.add(flight)
            job.add_done_callback(lambda _, flight=flight: self._landed(flight))  # type: ignore[misc]

    def _landed(self, flight: _Flight) -> None:
        if flight in self._flights and not flight.job.cancelled() and flight.job.exception() is None:
            self._flights.remove(flight)
            self._finished.append(_Finished(flight.number, flight.version, flight.job.result()))
        self._news.set()

    async def _wait(self) -> None:
        """Until a group ends. Raises what ended a flight for good."""
        self._news.clear()
        try:
            await asyncio.wait_for(self._news.wait(), self.settings.stall_s)
        except TimeoutError:
            raise EngineDeadError(
                f"no group finished for {self.settings.stall_s:.0f} s (run.stall_s), {len(self._flights)} are in "
                "flight; see the rollout and reward logs of the run folder"
            ) from None
        for flight in list(self._flights):
            if flight.job.done():
                self._flights.remove(flight)
                flight.job.result()

    def _refuse_stale(self) -> None:
        """Cancel or throw away what was begun too long ago; its prompt is first in line again."""
        oldest = self._version - self.settings.step.staleness
        late = [flight for flight in self._flights if flight.version < oldest]
        for flight in sorted(late, key=lambda flight: flight.number):
            self._flights.remove(flight)
            self._cancel(flight)
            self._redo(flight.prompt)
        fresh = deque(entry for entry in self._finished if entry.version >= oldest)
        for entry in self._finished:
            if entry.version < oldest:
                self._redo(entry.collected.groups[0].prompt)
        self._finished = fresh

    def _cancel(self, flight: _Flight) -> None:
        flight.job.cancel()
        self._leaving.add(flight.job)
        flight.job.add_done_callback(self._left)

    def _left(self, job: asyncio.Task[Collected]) -> None:
        self._leaving.discard(job)
        if not job.cancelled():
            job.exception()  # seen: what fails while it is being cancelled is part of that end

    def _redo(self, prompt: Prompt) -> None:
        self._again.append(prompt)
        self._counts.begun -= 1
        self._counts.stale += 1

    async def _collect(self, prompts: Sequence[Prompt], generated: Callable[[], None] = lambda: None) -> Collected:
        settings = self.settings
        tasks = [
            RolloutTask(
                prompt=prompt,
                n=settings.step.group_size,
                sampling=settings.sampling,
                run_seed=settings.seed,
                strategy=settings.strategy,
            )
            for prompt in prompts
        ]
        return await collect(tasks, self._rollouts, self._rewards, settings.stall_s, generated)


def _write(path: Path, state: dict[str, Any]) -> None:
    state |= {"finished": [(number, version, _each(found, whole)) for number, version, found in state["finished"]]}
    content = pickle.dumps(state, protocol=pickle.HIGHEST_PROTOCOL)
    plain.loads(content)  # what could not be read again is found now, and not when the run is resumed
    path.write_bytes(content)


def _each(collected: Collected, change: Callable[[Trajectory], Trajectory]) -> Collected:
    """The same groups with every trajectory changed."""
    groups = [replace(group, trajectories=tuple(map(change, group.trajectories))) for group in collected.groups]
    return replace(collected, groups=groups)


def _joined(batches: Sequence[Collected]) -> Collected:
    groups: list[Group] = [group for collected in batches for group in collected.groups]
    return Collected(
        groups=groups,
        generate_s=max((collected.generate_s for collected in batches), default=0.0),
        reward_tail_s=max((collected.reward_tail_s for collected in batches), default=0.0),
        tokens=sum(collected.tokens for collected in batches),
    )
