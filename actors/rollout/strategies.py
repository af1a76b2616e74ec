"""Rollout strategies that need nothing but a policy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from raylign.contracts import Completion, Policy, RolloutStrategy, RolloutTask
from raylign.environment import Environments
from raylign.records import Call, Int32s, Trajectory, derive_seed
from raylign.tasks import as_finished


class SingleTurn(RolloutStrategy):
    """One completion per sample: the prompt in, one turn out.

    The seed of sample i is ``derive_seed(run_seed, prompt.key, i, 0)``, whatever worker makes it and whenever.
    """

    @dataclass
    class Config:
        """No settings."""

    def __init__(self, config: Config, environments: Environments | None = None) -> None:
        self.config = config  # environments: offered to every strategy; one turn needs none

    async def run(self, task: RolloutTask, policy: Policy) -> AsyncIterator[Trajectory]:
        """Each trajectory as it finishes. Raises RequestError when the prompt does not fit the context."""
        samples = as_finished(self._sample(task, policy, index) for index in task.samples)
        async with aclosing(samples):
            async for trajectory in samples:
                yield trajectory

    async def _sample(self, task: RolloutTask, policy: Policy, index: int) -> Trajectory:
        seed = derive_seed(task.run_seed, task.prompt.key, index, 0)
        sampling = replace(task.sampling, temperature=0.0, top_p=1.0, top_k=0) if task.greedy else task.sampling
        said = await policy.generate(task.prompt.token_ids, sampling, seed)
        call = call_of(said, np.zeros(0, np.int32))
        return Trajectory(prompt_key=task.prompt.key, sample_index=index, calls=(call,), seed=seed, stop=said.stop)


def call_of(said: Completion, context_ids: Int32s) -> Call:
    """A completion as a call of the policy; `context_ids` [C] stand between it and the call before."""
    return Call(
        context_ids=context_ids,
        token_ids=said.token_ids,
        logprobs=said.logprobs,
        versions=said.versions,
        stop=said.stop,
        text=said.text,
    )
