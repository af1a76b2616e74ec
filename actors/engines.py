"""The rollout engines of a run: started when they are first needed, and holding the model that is to be sampled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from raylign.actors.learner.group import LearnerGroup
from raylign.actors.rollout.pool import VllmRolloutPool
from raylign.errors import LearnerError
from raylign.models.alike import alike

LOG = logging.getLogger(__name__)
Started = Callable[[str], Awaitable[VllmRolloutPool]]


class Engines:
    """One pool for all stages. start: makes one whose engines hold a model; learner: of the policy, where there is one
    and the run publishes weights anyway (there are models that engines compute otherwise, and no sync of theirs holds).

    A model reaches engines by a start, or, in a fraction of the time, from the learner that has it: a stage publishes
    its own, and after its end what it trained can still be had. Models that differ in more than weights are always
    started anew: engines take shape, template and ends of turn from the folder that they were started with.

    Example::

        engines = Engines(start, lambda: learner)
        pool = await engines.holding("run/stages/sft/model")
    """

    def __init__(
        self, start: Started, learner: Callable[[], LearnerGroup | None], trust_remote_code: bool = False
    ) -> None:
        self._start, self._learner, self._trust = start, learner, trust_remote_code
        self.lock = asyncio.Lock()
        self.pool: VllmRolloutPool | None = None
        self._model = ""  # whose weights the engines have; empty: no folder's
        self._trained = ""  # whose weights the learner has since its stage ended
        self._started = ""  # the model that they were started with
        self._publishing = False  # whether the stage publishes its own weights, and has not said what it left
        self._ahead: asyncio.Task[Any] | None = None  # their start before a stage asks for them

    def start_ahead(self, model: str) -> None:
        """Start them, if there are none, beside what a stage does until it asks for them."""
        if self.pool is None and self._ahead is None:
            self._ahead = asyncio.create_task(self._holding(model, publishes=False))

    async def holding(self, model: str, publishes: bool = False) -> VllmRolloutPool:
        """The pool; its engines hold `model`. publishes: the stage puts its own weights in, others will do until then.

        Raises EngineDeadError when an engine cannot be started.
        """
        if self._ahead is not None:
            await asyncio.shield(self._ahead)
        return await self._holding(model, publishes)

    def learner_loads(self) -> None:
        """The learner no longer has what it trained."""
        self._trained = ""

    def stage_trained(self, model: str, *, published: bool | None, whole: bool) -> None:
        """A stage ended, and the learner has the model that it exported.

        published: engines were given it last; False: they were given something else of the stage; None: nothing.
        whole: False where they are sent adapters alone, and so never hold what is exported.
        """
        self._publishing = False
        self._trained = model if whole else ""
        if published is not None:
            self._model = self._trained if published else ""

    def stage_ended(self) -> None:
        """What a stage published that did not say so is no folder's."""
        if self._publishing:
            self._publishing, self._model = False, ""

    async def close(self) -> None:
        """End them."""
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)
        if self.pool is not None:
            await self.pool.close()

    async def _holding(self, model: str, publishes: bool) -> VllmRolloutPool:
        async with self.lock:
            if self.pool is not None and not await self._given(self.pool, model, publishes):
                pool, self.pool = self.pool, None
                await pool.close()
            if self.pool is None:
                self.pool = await self._start(model)
                self._started = model
            self._model = model
            self._publishing |= publishes
            return self.pool

    async def _given(self, pool: VllmRolloutPool, model: str, publishes: bool) -> bool:
        """Whether the engines have the model now, or may stay for what will be published."""
        if self._model == model:
            return True
        self._model = ""  # whatever happens from here on
        if not await asyncio.to_thread(alike, self._started, model, self._trust):
            return False
        learner = self._learner()
        if publishes or learner is None or model != self._trained:
            return publishes
        try:
            weights = await learner.publish(0)  # the version of a new engine
        except LearnerError as error:  # the folder has what it had
            LOG.warning("the learner died after its stage, the engines are started with %s: %s", model, error)
            self._trained = ""
            return False
        await pool.publish(weights)
        return True
