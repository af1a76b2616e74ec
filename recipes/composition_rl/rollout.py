"""Composing as an episode of the policy: it answers the steps of `LlmComposer`, a sandbox runs its programs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np

from raylign.actors.rollout.strategies import call_of
from raylign.contracts import Policy, RolloutStrategy, RolloutTask
from raylign.environment import Environments
from raylign.errors import RequestError
from raylign.recipes.composition_rl.compose.chain import Chain, ChainOrRejected, Reason, Rejected
from raylign.recipes.composition_rl.compose.counts import outcome
from raylign.recipes.composition_rl.compose.drive import Ask, compose_async
from raylign.recipes.composition_rl.compose.llm import LlmComposer
from raylign.recipes.composition_rl.compose.operation import spc_async
from raylign.recipes.composition_rl.compose.rows import payload_of
from raylign.recipes.composition_rl.composers import Composing
from raylign.recipes.composition_rl.programs import Programs
from raylign.records import Call, StopReason, Trajectory, derive_seed


class ComposeRollout(Composing, RolloutStrategy):
    """A rollout strategy in which the policy is the composer: an episode is the eleven steps of each link of a chain.

    The prompt's ``meta["chain"]`` holds the records of its seeds (`ChainsToCompose`); the trajectory has the payload
    of `payload_of` and the metrics of `outcome`. A question that does not fit the context rejects the chain (TOO_LONG).
    """

    @dataclass
    class Config:
        """The composer's limits of repetition."""

        retries: int = 2
        timeout_s: float = 5.0  # of one generated program

    def __init__(self, config: Config, environments: Environments | None = None) -> None:
        """`environments` is what every strategy gets; a composer acts in none."""
        self.config = config
        self.programs = Programs(config.timeout_s)
        self._composer = LlmComposer(LlmComposer.Config(retries=config.retries))

    async def run(self, task: RolloutTask, policy: Policy) -> AsyncIterator[Trajectory]:
        """One trajectory per sample; its calls are the composer's replies."""
        for index in task.samples:
            yield await self._trajectory(task, policy, index)

    def close(self) -> None:
        """End the programs that run."""
        self.programs.close()

    async def _trajectory(self, task: RolloutTask, policy: Policy, index: int) -> Trajectory:
        calls: list[Call] = []
        seed = derive_seed(task.run_seed, task.prompt.key, index, 0)

        async def complete(ask: Ask) -> str:
            ids = np.asarray(policy.template.prompt_ids([{"role": "user", "content": ask.text}]), np.int32)
            reply = await policy.generate(ids, task.sampling, derive_seed(seed, len(calls)))
            calls.append(call_of(reply, ids))
            return reply.text

        async def compose(first: Chain, second: Chain) -> ChainOrRejected:
            return await compose_async(self._composer, first, second, complete, self.programs.printed)

        try:
            chain = await spc_async([Chain.from_record(row) for row in task.prompt.meta["chain"]], compose)
        except RequestError as error:
            chain = Rejected(reason=Reason.TOO_LONG, detail=str(error))
        return Trajectory(
            prompt_key=task.prompt.key,
            sample_index=index,
            calls=tuple(calls),
            seed=seed,
            stop=StopReason.DONE,
            payload=payload_of(chain),
            metrics=outcome(chain),
        )
