"""The place of one rollout worker: its actor, how often it was rebuilt, and the weights that it must hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from raylign.actors.remote import GONE, NoAnswer, born_dead, cause_of, end, kill, reply, spawn
from raylign.actors.rollout.worker import RolloutWorker, WorkerSpec
from raylign.contracts import WeightUpdate
from raylign.errors import EngineDeadError

DEATHS = (*GONE, EngineDeadError)  # what a caller sees when a worker is gone


class WorkerHandle:
    """Keeps one worker alive. `ready` gives the actor that serves now, however often its predecessors died."""

    def __init__(self, spec: WorkerSpec, options: Mapping[str, Any], max_restarts: int, deadline_s: float) -> None:
        self.spec = spec
        self.restarts = 0
        self.samples = 0  # under way on this worker
        self.weights: WeightUpdate | None = None  # what it must hold, and every successor
        self.report: dict[str, float] = {}  # `RolloutWorker.update`'s, of the last one
        self.make_room: Callable[[], Awaitable[None]] | None = None  # on its device, for a successor
        self._options = options  # of Ray
        self._max_restarts = max_restarts
        self._deadline_s = deadline_s
        self._actor: Any = None
        self._building: asyncio.Task[Any] | None = None
        self._failure: EngineDeadError | None = None

    @property
    def alive(self) -> bool:
        """Whether a worker is ready to serve at once."""
        return self._actor is not None and self._building is None and self._failure is None

    def check(self) -> None:
        """Raises EngineDeadError when the restarts are exhausted."""
        if self._failure is not None:
            raise self._exhausted(self._failure)

    async def ready(self) -> Any:
        """The serving actor, built if need be. Raises EngineDeadError when the restarts are exhausted."""
        self.check()
        if self._building is None and self._actor is None:
            self._building = asyncio.create_task(self._build())
        if self._building is not None:
            # Shielded: several callers wait for one build, and one of them giving up must not end it.
            await asyncio.shield(self._building)
        self.check()
        return self._actor

    def died(self, actor: Any, cause: BaseException) -> None:
        """Take note of a death and rebuild in the background. Raises EngineDeadError when that was the last restart."""
        if actor is not self._actor or self._building is not None:
            return  # a predecessor, or somebody noticed before
        self._bury(cause)
        self.check()
        self._building = asyncio.create_task(self._build())

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call a method that may be repeated, on this worker or on its successors, until one answers."""
        while True:
            actor = await self.ready()
            try:
                return await self._within(getattr(actor, method).remote(*arguments), method)
            except DEATHS as cause:
                self.died(actor, cause)

    async def publish(self) -> None:
        """Give `weights` to the worker and keep its `report`; one that dies meanwhile is rebuilt with them."""
        weights = self.weights
        assert weights is not None
        actor = await self.ready()
        try:
            self.report = await self._within(actor.update.remote(weights), f"update to version {weights.version}")
        except DEATHS as cause:
            self.died(actor, cause)

    async def close(self) -> None:
        """Stop the engine and kill the actor."""
        if self._building is not None:
            self._building.cancel()
            await asyncio.gather(self._building, return_exceptions=True)
            self._kill()  # it has nothing to end in order
        if self._actor is not None:
            await end(self._actor)
            self._actor = None

    async def _build(self) -> None:
        """Build a worker, with the last published weights, until one is ready or the restarts are exhausted."""
        try:
            while self._failure is None:
                if self.make_room is not None and self.restarts:
                    await self.make_room()
                self._actor = self._create()
                try:
                    await self._within(self._actor.start.remote(), "start")
                    given = None
                    while given is not self.weights:  # newer ones may be published while it loads these
                        given = self.weights
                        self.report = await self._within(self._actor.update.remote(given), "update")
                    return
                except DEATHS as cause:
                    self._bury(cause, starting=self.weights is None)
        except Exception as cause:
            self._kill()  # a worker that never became ready must not pass for one that serves
            self._failure = EngineDeadError(cause_of(cause))
            raise
        finally:
            self._building = None

    def _create(self) -> Any:
        spec, engine = self.spec, self.spec.engine
        # Never restarted by Ray: such a worker would serve old weights.
        return spawn(RolloutWorker, spec, options=self._options, threads=engine.threads, gpu=engine.gpu, health=True)

    def _bury(self, cause: BaseException, starting: bool = False) -> None:
        self._kill()
        if self.restarts >= self._max_restarts or (starting and born_dead(cause)):
            self._failure = EngineDeadError(cause_of(cause))
        else:
            self.restarts += 1

    def _kill(self) -> None:
        if self._actor is not None:
            kill(self._actor)
            self._actor = None

    async def _within(self, reference: Any, what: str) -> Any:
        try:
            return await reply(reference, self._deadline_s)
        except NoAnswer:
            raise EngineDeadError(f"{what} took more than {self._deadline_s:.0f} s") from None

    def _exhausted(self, cause: EngineDeadError) -> EngineDeadError:
        return EngineDeadError(
            f"rollout worker {self.spec.index} is dead after {self.restarts} restarts "
            f"(rollout.max_restarts={self._max_restarts}): {cause}; its log: {self.spec.log_path}"
        )


def serving(handles: Sequence[WorkerHandle]) -> list[WorkerHandle]:
    """The workers that are ready; all of them, which is to wait for them, when none is.

    One that is being rebuilt may wait for a node that never comes: the others do its share meanwhile. Raises
    EngineDeadError when the restarts of one are exhausted.
    """
    for handle in handles:
        handle.check()
    return [handle for handle in handles if handle.alive] or list(handles)
