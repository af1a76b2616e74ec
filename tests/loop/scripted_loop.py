"""A loop over scripted parts: the contracts, implemented by a few lines that compute exactly known numbers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from raylign.batch import Batch
from raylign.contracts import GroupMetrics, LearnerUpdate, RolloutTask, Sampling, Scored, WeightUpdate
from raylign.data.source import DatasetSource
from raylign.loop import Loop, LoopSettings, Parts, StepSettings
from raylign.objectives.advantage.group import GRPO
from raylign.objectives.loss.policy import ClippedLoss
from raylign.objectives.selection import KeepAll
from raylign.objectives.shaping import WeightedSum
from raylign.records import Call, Float32s, Group, Prompt, Reward, StopReason, Trajectory, Value, derive_seed


def prompt(number: int) -> Prompt:
    return Prompt(id=f"p{number}", messages=(), token_ids=np.array([1, 2, 3 + number], np.int32), answer=str(number))


class Scripted:
    """Rollout pool whose sample i of prompt p is the token list [seed % 7 + 1, 9], delivered last draw first."""

    def __init__(self) -> None:
        self.published: list[int] = []
        self.drawn: list[str] = []

    async def stream(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        for number in reversed(range(len(tasks))):
            task = tasks[number]
            self.drawn.append(task.prompt.key)
            for index in reversed(range(task.n)):
                seed = derive_seed(task.run_seed, task.prompt.key, index, 0)
                turn = Call(
                    context_ids=np.zeros(0, np.int32),
                    token_ids=np.array([seed % 7 + 1, 9], np.int32),
                    logprobs=np.array([-0.5, -0.25], np.float32),
                    versions=np.full(2, len(self.published), np.int32),
                    stop=StopReason.EOS,
                )
                trajectory = Trajectory(
                    prompt_key=task.prompt.key, sample_index=index, calls=(turn,), seed=seed, stop=StopReason.EOS
                )
                yield [Scored(task=number, trajectory=trajectory)]
                await asyncio.sleep(0)

    async def publish(self, weights: WeightUpdate) -> dict[str, float]:
        self.published.append(weights.version)
        return {"seconds": 0.0}

    async def busy(self) -> tuple[float, int]:
        return 0.0, 0


class Rule:
    """Reward pools around a function of (prompt, trajectory)."""

    def __init__(self, rule: Callable[[Prompt, Trajectory], Reward]) -> None:
        self.rule = rule

    async def score(self, prompt: Prompt, trajectory: Trajectory) -> Mapping[str, Reward]:
        await asyncio.sleep(0)
        return {"rule": self.rule(prompt, trajectory)}

    async def score_group(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Mapping[str, Reward]]:
        return [{"size": Value(score=float(len(trajectories)))} for _ in trajectories]


class Student:
    """A learner that keeps what it was given."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    fills = frozenset({"old_logprob"})

    async def streams(self, batch: Batch, names: Collection[str]) -> dict[str, Float32s]:
        return {name: np.where(batch["loss_mask"], -1.0, 0.0).astype(np.float32) for name in names}

    async def update(self, batch: Batch, objective: Mapping[str, Any]) -> LearnerUpdate:
        self.batches.append(batch)
        count = float(len(self.batches))
        return LearnerUpdate(metrics={"loss/policy": count, "max/gap": count})

    async def save(self, folder: str) -> None:
        Path(folder).write_text("saved")

    async def restore(self, folder: str) -> None:
        assert Path(folder).read_text() == "saved"

    async def publish(self, version: int) -> WeightUpdate:
        none = np.zeros(0, np.float32)
        return WeightUpdate(
            version=version, buffer=None, layout=(), digests={}, probe_ids=np.zeros(0, np.int32), probe_logprobs=none
        )


def make(rule: Callable[[Prompt, Trajectory], Reward], count: int = 12, **settings: Any) -> Loop:
    step = {"steps": 0, "prompts_per_step": 4, "group_size": 3}
    settings.setdefault("stall_s", 5.0)
    step |= {name: settings.pop(name) for name in list(settings) if name in StepSettings.__dataclass_fields__}
    weights = {"rule": 1.0, "size": 0.0}
    parts = Parts(
        source=settings.pop("source", DatasetSource)(
            DatasetSource.Config(), prompts=[prompt(i) for i in range(count)], seed=1
        ),
        rollouts=Scripted(),  # type: ignore[arg-type]
        rewards=Rule(rule),
        shaper=settings.pop("shaper", WeightedSum)(WeightedSum.Config(), weights=weights, max_tokens=8),
        selector=settings.pop("selector", KeepAll(KeepAll.Config(), seed=1)),
        advantage=GRPO(GRPO.Config()),
        learner=Student(),  # type: ignore[arg-type]
        objective={"_target_": "raylign.objectives.loss.policy.ClippedLoss"},
        objective_needs=ClippedLoss(ClippedLoss.Config()).needs,
    )
    return Loop(
        parts,
        LoopSettings(
            step=StepSettings(**step), seed=1, sampling=Sampling(max_tokens=8), **{"stall_s": 5.0, **settings}
        ),
    )


class Remembering(WeightedSum):
    """Scores are less the mean of all sums before; a state of the small kind, and one of the large kind."""

    def __init__(self, *args: Any, **made_with: Any) -> None:
        super().__init__(*args, **made_with)
        self.asked = 0
        self.history = np.zeros(0)

    def score(self, groups: Sequence[Group]) -> list[Group]:
        self.asked += len(groups)
        before = float(self.history.mean()) if self.history.size else 0.0
        sums = super().score(groups)
        self.history = np.concatenate([self.history, *([s for s in g.scores if s is not None] for g in sums)])
        return [replace(g, scores=tuple(None if s is None else s - before for s in g.scores)) for g in sums]

    def metrics(self, groups: Sequence[Group]) -> list[GroupMetrics]:
        plain = super().metrics(groups)
        return [GroupMetrics(group={**m.group, "memory/size": float(self.history.size)}) for m in plain]

    def state_dict(self) -> dict[str, Any]:
        return {"asked": self.asked}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.asked = state["asked"]

    def save(self, folder: Path) -> None:
        np.save(folder / "history.npy", self.history)

    def restore(self, folder: Path) -> None:
        self.history = np.load(folder / "history.npy")


class Observing(DatasetSource):
    """Keeps the number of samples of every group that it has observed, as an array."""

    def __init__(self, *args: Any, **made_with: Any) -> None:
        super().__init__(*args, **made_with)
        self.sizes = np.zeros(0, np.int64)

    def observe(self, groups: Sequence[Group]) -> None:
        self.sizes = np.append(self.sizes, [len(group.trajectories) for group in groups])

    def save(self, folder: Path) -> None:
        np.save(folder / "sizes.npy", self.sizes)

    def restore(self, folder: Path) -> None:
        self.sizes = np.load(folder / "sizes.npy")


def first_token(_: Prompt, trajectory: Trajectory) -> Reward:
    return Value(score=float(trajectory.calls[0].token_ids[0]))
