"""Rollout workers added: throughput with 1, 2, 4 simulated engines, and the driver's time a step with up to 256.

    python -m benchmarks.scale_out [--prompts 256] [--force]

A simulated engine samples in real time (a fixed rate, log-normal lengths, at most so many sequences at once) without
computing anything, so that what is measured is ours: splitting, streaming, the ledger, rewards, rows and advantage. The
loop, the pool's draw streams and the advantage are the real ones; engines and learner are clocks within this process.
Efficiency of W workers: time of the same step with one worker, over W times its time with W (needs 0.9). A step ends
with its longest draws, in which most places stand empty: the fewer draws a place makes in a step, the more that weighs.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.harness import environment, refuse_under_load, write
from raylign.actors.rollout.stream import SampleCounters, SampleStream
from raylign.batch import Batch
from raylign.contracts import LearnerUpdate, RolloutTask, Sampling, Scored, WeightUpdate
from raylign.data.source import DatasetSource
from raylign.loop import Loop, LoopSettings, Parts, StepSettings
from raylign.objectives.advantage.group import GRPO
from raylign.objectives.loss.policy import ClippedLoss
from raylign.objectives.selection import KeepAll
from raylign.objectives.shaping import WeightedSum
from raylign.records import Call, Float32s, Prompt, Reward, StopReason, Trajectory, Value, derive_seed

TOKENS_PER_S = 400.0  # of one sequence
SEQUENCES = 16  # at once in one engine
MEAN, CAP = 60, 256
GROUP = 8
NEED = 0.9


class Engine:
    """Takes draws in order; each handle of the batch is busy for its length over the rate."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(SEQUENCES)
        self.rollout = self  # as a Ray method: worker.rollout.remote(tasks)

    async def draw(self, number: int, task: RolloutTask, index: int) -> Scored:
        """One trajectory, in real time."""
        seed = derive_seed(task.run_seed, task.prompt.key, index, 0)
        rng = np.random.default_rng(seed)
        length = int(np.clip(rng.lognormal(np.log(MEAN) - 0.32, 0.8), 4, CAP))
        async with self._places:
            await asyncio.sleep(length / TOKENS_PER_S)
        call = Call(
            context_ids=np.zeros(0, np.int32),
            token_ids=rng.integers(6, 200, length).astype(np.int32),
            logprobs=np.full(length, -1.0, np.float32),
            versions=np.zeros(length, np.int32),
            stop=StopReason.EOS,
        )
        one = Trajectory(prompt_key=task.prompt.key, sample_index=index, calls=(call,), seed=seed, stop=StopReason.EOS)
        return Scored(task=number, trajectory=one)

    async def remote(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[Any]:
        """What a Ray streaming call gives: awaitables of lists."""
        jobs = [
            asyncio.ensure_future(self.draw(number, task, index))
            for number, task in enumerate(tasks)
            for index in task.samples
        ]
        for job in asyncio.as_completed(jobs):
            yield _ready([await job])


async def _ready(scored: list[Scored]) -> list[Scored]:
    return scored


class Place:
    """A handle of the pool whose worker never dies."""

    alive, draws = True, 0

    def __init__(self) -> None:
        self.engine = Engine()

    def check(self) -> None:
        """It has no restarts to exhaust."""

    async def ready(self) -> Engine:
        """The engine."""
        return self.engine


class Pool:
    """The real draw streams over simulated engines."""

    def __init__(self, workers: int) -> None:
        self._places = [Place() for _ in range(workers)]

    def stream(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        """See `RolloutPool.stream`."""
        return SampleStream(self._places, tasks, SampleCounters(), 60.0).run()  # type: ignore[arg-type]

    async def publish(self, weights: WeightUpdate) -> dict[str, float]:
        """Nothing to load."""
        return {}

    async def busy(self) -> tuple[float, int]:
        """Not measured here."""
        return 0.0, 0


class Clocks:
    """Rewards and a learner that take no time."""

    async def score(self, prompt: Prompt, trajectory: Trajectory) -> Mapping[str, Reward]:
        """A number that differs."""
        return {"length": Value(score=float(trajectory.response_length))}

    async def score_group(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Mapping[str, Reward]]:
        """None of its own."""
        return [{} for _ in trajectories]

    fills: frozenset[str] = frozenset()

    async def streams(self, batch: Batch, names: Collection[str]) -> dict[str, Float32s]:
        """Unused."""
        return {}

    async def update(self, batch: Batch, objective: Mapping[str, Any]) -> LearnerUpdate:
        """Nothing is learned."""
        return LearnerUpdate(metrics={})

    async def publish(self, version: int) -> WeightUpdate:
        """Nothing to carry."""
        none = np.zeros(0, np.float32)
        return WeightUpdate(
            version=version, buffer=None, layout=(), digests={}, probe_ids=np.zeros(0, np.int32), probe_logprobs=none
        )


def loop_of(workers: int, prompts_per_step: int) -> Loop:
    """A loop over that many engines."""
    prompts = [Prompt(id=str(i), messages=(), token_ids=np.arange(12, dtype=np.int32)) for i in range(512)]
    clocks: Any = Clocks()
    parts = Parts(
        source=DatasetSource(DatasetSource.Config(), prompts=prompts, seed=1),
        rollouts=Pool(workers),
        rewards=clocks,
        shaper=WeightedSum(WeightedSum.Config(), weights={"length": 1.0}, max_tokens=CAP),
        selector=KeepAll(KeepAll.Config(), seed=1),
        advantage=GRPO(GRPO.Config()),
        learner=clocks,
        objective={"_target_": "raylign.objectives.loss.policy.ClippedLoss"},
        objective_needs=ClippedLoss(ClippedLoss.Config()).needs,
    )
    step = StepSettings(steps=0, prompts_per_step=prompts_per_step, group_size=GROUP)
    numbers = LoopSettings(step=step, seed=1, sampling=Sampling(max_tokens=CAP))
    return Loop(parts, numbers)


async def steps_of(workers: int, prompts: int, count: int = 3) -> tuple[float, float]:
    """Median wall and CPU seconds of a step."""
    loop = loop_of(workers, prompts)
    walls, cpus = [], []
    for step in range(count):
        wall, cpu = time.perf_counter(), time.process_time()
        await loop.step(step)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def main() -> None:
    """Both claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=256, help=f"of a step; each is drawn {GROUP} times")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine")
    args = parser.parse_args()
    refuse_under_load(0.5, args.force)
    few = {workers: asyncio.run(steps_of(workers, args.prompts)) for workers in (1, 2, 4)}
    many = {workers: asyncio.run(steps_of(workers, args.prompts)) for workers in (16, 64, 256)}
    efficiency = {workers: few[1][0] / (workers * wall) for workers, (wall, _) in few.items()}
    driver = {workers: cpu for workers, (_, cpu) in {**few, **many}.items()}
    for workers, share in efficiency.items():
        print(f"{workers} workers: {few[workers][0]:.2f} s a step, efficiency {share:.2f} (needs {NEED})")
    print("driver CPU a step: " + ", ".join(f"{workers}: {1e3 * cpu:.0f} ms" for workers, cpu in driver.items()))
    write(
        "scale_out",
        {
            "environment": environment(),
            "prompts": args.prompts,
            "step_s": few | many,
            "efficiency": efficiency,
            "driver_s": driver,
        },
    )


if __name__ == "__main__":
    main()
