"""Rollouts without an engine: samples of the published `FakeLearner`, or what a function of yours says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raylign.contracts import Refused, RolloutTask, Scored, WeightUpdate
from raylign.errors import EngineDeadError
from raylign.records import StopReason, Trajectory, derive_seed
from raylign.testing.learner import VOCAB, log_softmax
from raylign.testing.records import call, trajectory

Said = str | Trajectory | Refused
GAP = 1e-6  # nats that weights may be off their probe


class FakeRollouts:
    """Implements `raylign.contracts.RolloutPool`. What comes last in a task is delivered first, sample by sample.

    says: what sample `index` of a task is: a text (one token a byte), a whole trajectory, or that it cannot be made. A
    sample's seed derives from the run's, its prompt and its index, as an engine's does. Without `says` a sample is
    `length` tokens drawn by that seed from the weights that were last published, before that from ids 0 to `vocab` - 1
    alike; its text is these ids. `asked` keeps the tasks, `published` the versions.
    """

    def __init__(
        self, says: Callable[[RolloutTask, int], Said] | None = None, *, length: int = 2, vocab: int = VOCAB
    ) -> None:
        self.asked: list[RolloutTask] = []
        self.published: list[int] = []
        self._says, self._length = says, length
        self._logp = log_softmax(np.zeros(vocab))

    async def stream(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        """Every sample of every task, the last first."""
        self.asked += tasks
        for number in reversed(range(len(tasks))):
            for index in reversed(tasks[number].samples):
                yield [self._scored(number, tasks[number], index)]
                await asyncio.sleep(0)

    async def publish(self, weights: WeightUpdate) -> dict[str, float]:
        """Take the logits of a `FakeLearner`. Raises EngineDeadError where they do not give its probe."""
        if weights.buffer is not None:
            logits: NDArray[np.float64] = np.frombuffer(np.asarray(weights.buffer).tobytes(), np.float64)
            logp = log_softmax(logits)
            gap = np.abs(logp[weights.probe_ids[:, 1:]] - weights.probe_logprobs).max(initial=0.0)
            if gap > GAP:
                raise EngineDeadError(f"weights of version {weights.version} are {gap:.3g} nats off their probe")
            self._logp = logp
        self.published.append(weights.version)
        return {"seconds": 0.0}

    async def busy(self) -> tuple[float, int]:
        """No engine can tell."""
        return 0.0, 0

    def _scored(self, number: int, task: RolloutTask, index: int) -> Scored:
        seed = derive_seed(task.run_seed, task.prompt.key, index, 0)
        said = self._drawn(task, seed) if self._says is None else self._says(task, index)
        named: dict[str, Any] = {"prompt_key": task.prompt.key, "sample_index": index, "seed": seed}
        if isinstance(said, Refused):
            return Scored(task=number, trajectory=trajectory(stop=StopReason.ABORT, **named), error=said.reason)
        version = self.published[-1] if self.published else 0
        made = trajectory(call(said, versions=version)) if isinstance(said, str) else said
        return Scored(task=number, trajectory=replace(made, **named))

    def _drawn(self, task: RolloutTask, seed: int) -> Trajectory:
        """Tokens of the published policy; the likeliest, where the task is greedy."""
        length = min(self._length, task.sampling.max_tokens)
        ids = np.random.default_rng(seed).choice(len(self._logp), length, p=np.exp(self._logp))
        if task.greedy:
            ids = np.full(length, int(np.argmax(self._logp)))
        version = self.published[-1] if self.published else 0
        return trajectory(call(" ".join(map(str, ids)), ids.tolist(), logprobs=self._logp[ids], versions=version))
