"""A chat model in the place of the policy's engines: what it answers to a prompt is a sample of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace

import numpy as np

from raylign.actors.environments.host import encodable
from raylign.actors.judge.chat import ChatModel
from raylign.chat.messages import continues
from raylign.contracts import RolloutTask, Scored, WeightUpdate
from raylign.errors import EngineDeadError, JudgeUnavailable
from raylign.records import Call, Message, Prompt, StopReason, Trajectory, derive_seed
from raylign.tasks import as_finished

IN_FLIGHT = 64  # completions at a time


class ChatRollouts:
    """Implements `raylign.contracts.RolloutPool` on a chat model: one completion a sample, whatever the strategy.

    A sample has a text and no token ids; metric ``reply_tokens`` where the model counts them. Its seed derives as an
    engine's does. A model that cannot be reached, or a prompt that it cannot be shown whole (tools, an open message of
    the assistant), fails the sample with the reason.
    """

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        self._gate = asyncio.Semaphore(IN_FLIGHT)

    async def stream(self, tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        """Each answer as it comes."""
        places = [(number, task, index) for number, task in enumerate(tasks) for index in task.samples]
        answers = as_finished(self._sample(*place) for place in places)
        async with aclosing(answers):
            async for answer in answers:
                yield [answer]

    async def publish(self, weights: WeightUpdate) -> dict[str, float]:
        """Raises EngineDeadError: the model is frozen."""
        raise EngineDeadError(f"{self._model.name} is a frozen model and takes no weights")

    async def busy(self) -> tuple[float, int]:
        """No engine can tell."""
        return 0.0, 0

    async def _sample(self, number: int, task: RolloutTask, index: int) -> Scored:
        seed = derive_seed(task.run_seed, task.prompt.key, index, 0)
        empty = Trajectory(prompt_key=task.prompt.key, sample_index=index, calls=(), seed=seed, stop=StopReason.ABORT)
        if hidden := _hidden(task.prompt):
            return Scored(task=number, trajectory=empty, error=f"{self._model.name} cannot be shown {hidden}")
        try:
            answered = await self._answered(task, index, empty)
        except JudgeUnavailable as error:
            answered = str(error)
        if isinstance(answered, str):
            return Scored(task=number, trajectory=empty, error=answered)
        return Scored(task=number, trajectory=answered)

    async def _answered(self, task: RolloutTask, index: int, empty: Trajectory) -> Trajectory | str:
        """The sample, or why there is none. Raises JudgeUnavailable."""
        call, tokens = await self._said(task, task.prompt.messages, empty.seed)
        counted = {"reply_tokens": float(tokens)} if tokens else {}
        return replace(empty, calls=(call,), stop=call.stop, metrics=counted)

    async def _said(self, task: RolloutTask, messages: Sequence[Message], seed: int) -> tuple[Call, int]:
        """One completion, and the tokens that the model counts of it. Raises JudgeUnavailable."""
        sampling = replace(task.sampling, temperature=0.0, top_p=1.0, top_k=0) if task.greedy else task.sampling
        async with self._gate:
            reply = await self._model.complete(messages, sampling, seed)
        nothing = np.zeros(0, np.int32)
        call = Call(
            context_ids=nothing,
            token_ids=nothing,
            logprobs=np.zeros(0, np.float32),
            versions=nothing,
            stop=StopReason.LENGTH if 0 < sampling.max_tokens <= reply.tokens else StopReason.EOS,
            text=encodable(reply.text),
        )
        return call, reply.tokens


def _hidden(prompt: Prompt) -> str:
    """What of a prompt a chat model would not see."""
    if prompt.tools:
        return "the tools of a prompt"
    return "a prompt that ends with an open message of the assistant" if continues(prompt.messages) else ""
