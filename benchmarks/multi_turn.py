"""How much of the wall time the engine works while 64 episodes of 5 turns run at once, and that none waits for another.

    python -m benchmarks.multi_turn [--episodes 64] [--repeats 5] [--force]

One engine in this process, Sokoban in it, plain episodes: sampling, parsing, the environment's step, the template's
suffix and the next request share two cores with the engine's own thread. Busy is the time inside the engine's step.
Turns have lengths of their own (up to 96 tokens), so episodes drift apart: with a barrier all open requests would stand
at the same turn. Interleaved is the share of moments at which they stand at three turns or more.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from raylign.actor_env import actor_env

os.environ.update(actor_env(1, gpu=False))  # before torch and vLLM are imported

import numpy as np

from benchmarks import harness
from raylign.actors.environments.host import EnvironmentHost
from raylign.actors.rollout.engine import Engine, EngineSpec, make_engine
from raylign.actors.rollout.multi_turn import MultiTurn
from raylign.config.schema import DataConfig, EngineKind, TinyModel
from raylign.contracts import Completion, RolloutTask, Sampling
from raylign.data.prompts import load_prompts
from raylign.models.tiny import build_tiny_model
from raylign.records import Int32s, Trajectory

SHAPE = TinyModel(hidden_size=192, layers=6, heads=6, kv_heads=2, head_dim=32, intermediate_size=512, context=1024)
ENVIRONMENT = {
    "_target_": "raylign.actors.environments.games.sokoban.Sokoban",
    "levels": "open",
    "format": "letters",
}
TURNS, MAX_TOKENS = 5, 96
BUSY = 0.8  # of the wall time
INTERLEAVED = 0.5  # share of moments at which open episodes stand at three turns or more


@dataclass(slots=True)
class Watch:
    """A policy that notes what is under way whenever a turn is asked for or comes back."""

    engine: Engine
    spread: list[int] = field(default_factory=list)  # different turns that open requests stand at
    idle_gaps: list[float] = field(default_factory=list)  # seconds without any request while episodes were open
    _standing: dict[int, int] = field(default_factory=dict)
    _idle_since: float | None = None
    _numbers: int = 0

    @property
    def tokenizer(self) -> Any:
        """The engine's."""
        return self.engine.tokenizer

    @property
    def max_context(self) -> int:
        """The engine's."""
        return self.engine.max_context

    async def generate(self, token_ids: Sequence[int] | Int32s, sampling: Sampling, seed: int) -> Completion:
        """See `Policy.generate`."""
        number, self._numbers = self._numbers, self._numbers + 1
        turn = int((np.asarray(token_ids) == self._assistant).sum())
        if self._idle_since is not None:
            self.idle_gaps.append(time.perf_counter() - self._idle_since)
            self._idle_since = None
        self._standing[number] = turn
        self.spread.append(len(set(self._standing.values())))
        try:
            return await self.engine.generate(token_ids, sampling, seed)
        finally:
            del self._standing[number]
            if not self._standing:
                self._idle_since = time.perf_counter()

    async def score(self, token_ids: Sequence[int] | Int32s, start: int) -> Any:
        """See `Policy.score`."""
        return await self.engine.score(token_ids, start)

    @property
    def _assistant(self) -> int:
        return int(self.tokenizer.convert_tokens_to_ids("<|assistant|>"))


async def rollout(engine: Engine, tasks: Sequence[RolloutTask]) -> dict[str, float]:
    """All episodes at once: busy share of the wall time, and what was under way."""
    host, watch = EnvironmentHost(ENVIRONMENT), Watch(engine)
    strategy = MultiTurn(MultiTurn.Config(max_turns=TURNS), host)

    async def run(task: RolloutTask) -> int:
        return sum(
            [
                len(trajectory.calls)
                async for trajectory in strategy.run(task, watch)
                if isinstance(trajectory, Trajectory)
            ]
        )

    before, started = engine.stats(), time.perf_counter()
    async with engine.held():
        runs = [asyncio.ensure_future(run(task)) for task in tasks]
    turns = await asyncio.gather(*runs)
    wall, after = time.perf_counter() - started, engine.stats()
    steps = after["steps"] - before["steps"]
    return {
        "wall_s": wall,
        "busy": (after["busy_s"] - before["busy_s"]) / wall,
        "turns": float(sum(turns)),
        "tokens": float(after["tokens"] - before["tokens"]),
        "steps": float(steps),
        "tokens_per_step": (after["tokens"] - before["tokens"]) / max(steps, 1),
        "interleaved": float(np.mean([count >= 3 for count in watch.spread])),
        "longest_idle_ms": 1e3 * max(watch.idle_gaps, default=0.0),
    }


def tasks_of(engine: Engine, episodes: int, run_seed: int) -> list[RolloutTask]:
    """One episode each of as many rooms."""
    rows = {"_target_": "raylign.actors.environments.rows.EnvironmentRows", "environment": ENVIRONMENT, "first_seed": 0}
    data = DataConfig(generator=rows, size=2 * episodes, holdout=0)  # rooms that look alike are one prompt
    prompts = load_prompts(data, engine.tokenizer, 0).train[:episodes]
    sampling = Sampling(max_tokens=MAX_TOKENS)
    return [RolloutTask(prompt=prompt, n=1, sampling=sampling, run_seed=run_seed) for prompt in prompts]


async def measure(episodes: int, repeats: int) -> dict[str, Any]:
    """Median over repeats, after one that warms up."""
    path = str(build_tiny_model(SHAPE))
    spec = EngineSpec(model_path=path, dtype="float32", max_context=SHAPE.context, max_sequences=256)
    engine = make_engine(EngineKind.in_process, spec)
    await engine.start()
    rows = [await rollout(engine, tasks_of(engine, episodes, run_seed)) for run_seed in range(repeats + 1)][1:]
    await engine.close()
    return {name: harness.median([row[name] for row in rows]) for name in rows[0]}


def main() -> None:
    """Measure, compare with the targets, write outputs/bench/multi_turn.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--force", action="store_true", help="measure on a busy machine, too")
    arguments = parser.parse_args()
    environment = harness.environment()
    harness.refuse_under_load(force=arguments.force)
    figures = asyncio.run(measure(arguments.episodes, arguments.repeats))
    result = {
        "environment": environment,
        "episodes": arguments.episodes,
        "turns_an_episode": TURNS,
        **figures,
        "target_busy": BUSY,
        "target_interleaved": INTERLEAVED,
        "reached": figures["busy"] >= BUSY and figures["interleaved"] >= INTERLEAVED,
    }
    harness.write("multi_turn", result)


if __name__ == "__main__":
    main()
