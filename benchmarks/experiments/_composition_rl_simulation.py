"""The real loop over scripted rollouts: every trajectory succeeds with its prompt's own probability."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np

from raylign.batch import Batch
from raylign.contracts import LearnerUpdate, RolloutTask, Sampling, Scored, WeightUpdate
from raylign.data.curriculum import Curriculum
from raylign.loop import Loop, LoopSettings, Parts, StepSettings
from raylign.objectives.advantage.group import GRPO
from raylign.objectives.selection import KeepAll
from raylign.objectives.shaping import WeightedSum
from raylign.recipes.composition_rl import CompositionSource
from raylign.records import Call, Prompt, Reward, StopReason, Trajectory, Value


class _Rollouts:
    """Draws whether a trajectory succeeds from ``meta["success"]``."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    async def stream(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        for number, task in enumerate(tasks):
            wins = self._rng.random(task.n) < task.prompt.meta["success"]
            yield [Scored(task=number, trajectory=_trajectory(task.prompt, i, win)) for i, win in enumerate(wins)]

    async def publish(self, weights: WeightUpdate) -> dict[str, float]:
        return {}

    async def busy(self) -> tuple[float, int]:
        return 0.0, 0


class _Rewards:
    async def score(self, prompt: Prompt, trajectory: Trajectory) -> Mapping[str, Reward]:
        return {"correct": Value(score=float(trajectory.calls[0].text))}

    async def score_group(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Mapping[str, Reward]]:
        return [{} for _ in trajectories]


class _Learner:
    fills: frozenset[str] = frozenset()

    async def update(self, batch: Batch, objective: Mapping[str, Any]) -> LearnerUpdate:
        return LearnerUpdate(metrics={})

    async def publish(self, version: int) -> WeightUpdate:
        ids, none = np.zeros(0, np.int32), np.zeros(0, np.float32)
        return WeightUpdate(version=version, buffer=None, layout=(), digests={}, probe_ids=ids, probe_logprobs=none)


def logged_ratio(success: np.ndarray, rng: np.random.Generator) -> float:
    """``source/solve_all`` of one step of the real loop on prompts that succeed with these probabilities."""
    prompts = [
        Prompt(
            id=f"p{number}",
            messages=({"role": "user", "content": f"problem {number}"},),
            token_ids=np.array([1, 2], np.int32),
            answer="1",
            meta={"success": float(rate)},
        )
        for number, rate in enumerate(success)
    ]
    config = CompositionSource.Config(curriculum=Curriculum.Config(depths=[1]))
    parts = Parts(
        source=CompositionSource(config, prompts=prompts, seed=1),
        rollouts=_Rollouts(rng),  # type: ignore[arg-type]
        rewards=_Rewards(),
        shaper=WeightedSum(WeightedSum.Config(), weights={"correct": 1.0}, max_tokens=8),
        selector=KeepAll(KeepAll.Config(), seed=1),
        advantage=GRPO(GRPO.Config()),
        learner=_Learner(),  # type: ignore[arg-type]
        objective={},
        objective_needs=frozenset(),
    )
    step = StepSettings(steps=0, prompts_per_step=len(prompts), group_size=8, dynamic_sampling=True, sampling_rounds=1)
    settings = LoopSettings(step=step, seed=1, sampling=Sampling(max_tokens=4))
    result = asyncio.run(Loop(parts, settings).step(0))
    return result.metrics["source/solve_all"]


def _trajectory(prompt: Prompt, index: int, win: bool) -> Trajectory:
    call = Call(
        context_ids=np.zeros(0, np.int32),
        token_ids=np.array([3], np.int32),
        logprobs=np.zeros(1, np.float32),
        versions=np.zeros(1, np.int32),
        stop=StopReason.EOS,
        text=str(int(win)),
    )
    return Trajectory(prompt_key=prompt.key, sample_index=index, calls=(call,), seed=0, stop=StopReason.EOS)
