"""How every stage with checkpoints goes through its steps: from the newest one on, saved, stopped and ended alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from raylign.checkpoint import Checkpoint, Checkpoints
from raylign.contracts import Learner
from raylign.data.identity import DataIdentity
from raylign.recipes.stages.context import RunContext, StopRequested


class Trained(Protocol):
    """Something that learns, and is saved in checkpoints."""

    def state_dict(self) -> dict[str, Any]:
        """Its small state (JSON types only)."""

    async def save(self, folder: Path) -> None:
        """Write it."""

    async def restore(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Go on from what `save` wrote and `state_dict` gave."""


class TrainedModel:
    """One learner."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def state_dict(self) -> dict[str, Any]:
        """Empty: everything is in files."""
        return {}

    async def save(self, folder: Path) -> None:
        """See `Trained.save`."""
        await self._learner.save(str(folder / "learner"))

    async def restore(self, folder: Path, state: Mapping[str, Any]) -> None:
        """See `Trained.restore`."""
        await self._learner.restore(str(folder / "learner"))


class Training:
    """The steps of one stage. `kept` is the stage's own small state, carried by checkpoints (JSON types only).

    Example::

        training = await asyncio.to_thread(Training, context, "sft", steps=100)
        await training.resume(trained)
        async for step in training.steps(trained):
            training.kept["metrics"] = metrics = await learn(step)
            context.record("sft", step + 1, metrics)
    """

    def __init__(
        self, context: RunContext, stage: str, steps: int, identity: DataIdentity | None = None, every: int = 0
    ) -> None:
        """identity: of the data; every: steps between checkpoints, 0: `run.save_every`.

        Raises CheckpointError when the newest checkpoint was made on other data.

        Reads the whole of that checkpoint: an event loop makes a training in a thread.
        """
        self._context, self._stage, self._steps, self._identity = context, stage, steps, identity
        self._every = every or context.cfg.run.save_every
        self._checkpoints = Checkpoints(context.folder.stage(stage) / "checkpoints", context.cfg.run.keep_checkpoints)
        self.newest: Checkpoint | None = self._checkpoints.newest()
        self.saved = False  # whether a checkpoint was written after the last step
        self.kept: dict[str, Any] = dict(self.newest.state.get("kept", {})) if self.newest else {}
        if self.newest and identity:
            identity.check(self.newest.state.get("data"))

    @property
    def start(self) -> int:
        """Steps that are done."""
        return self.newest.step if self.newest else 0

    async def resume(self, trained: Trained) -> None:
        """Begin, or go on from the newest checkpoint."""
        self._context.begin(self._stage, self._steps, self.start)
        if self.newest:
            await trained.restore(self.newest.folder, self.newest.state)
            self._context.recorder.event("resumed", stage=self._stage, checkpoint=str(self.newest.folder))

    async def steps(self, trained: Trained) -> AsyncIterator[int]:
        """The numbers of the steps to do, from 0; a checkpoint follows the last, every so many, and a signal.

        Raises StopRequested once a signal's step is saved.
        """
        every = self._every
        for step in range(self.start, self._steps):
            yield step
            last, stop = step + 1 == self._steps, self._context.stop_requested
            self.saved = stop or last or bool(every and (step + 1) % every == 0)
            if self.saved:
                self._context.phase(self._stage, step, "save")
                state = {**trained.state_dict(), "kept": self.kept}
                if self._identity:
                    state["data"] = self._identity.state()
                await self._context.recorder.flushed()  # no step of the checkpoint lacks its record
                await self._checkpoints.save(step + 1, state, trained.save)
            if stop and not last:
                raise StopRequested(f"{self._stage}: stopped after step {step + 1} of {self._steps}")
