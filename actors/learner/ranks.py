"""A group of actors, one per rank, started and ended as one.

Ranks meet in collectives. When one of them raises or dies, the others would wait for it for ever, so the first failure,
or the deadline of a call, ends the whole group with an error that names the rank, its node and its log.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import ray
from ray.exceptions import RayActorError

from raylign.actors.remote import GONE, cause_of, kill, reply, spawn, unborn
from raylign.batch import Batch
from raylign.errors import LearnerError, LoadError, RaylignError

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")

GRACE = 2.0  # seconds in which other ranks may fail too, so that the cause is told from its echo in a collective


def plain_errors(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Let a method of an actor raise only our own errors: those of third parties may not survive pickling.

    The full traceback goes to the actor's log.
    """

    @functools.wraps(method)
    def call(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except RaylignError:
            traceback.print_exc()
            raise
        except Exception as cause:  # noqa: BLE001 - any cause becomes a LearnerError, none is swallowed
            traceback.print_exc()
            raise LearnerError(f"{type(cause).__name__} in {method.__name__}: {cause}") from None

    return call


def node_address() -> tuple[str, str]:
    """(node id, IP address) of the node that this actor runs on."""
    return ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()


async def shared(batch: Batch) -> Any:
    """One copy in the object store that all ranks read, a row for every context; copied in a thread."""
    return await asyncio.to_thread(lambda: ray.put(batch.by_context()))


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


class RankGroup:
    """The actors of one role. `call` runs a method on every rank and returns the results in rank order.

    options: placement of rank i, passed to Ray as actor options.
    """

    def __init__(
        self, worker: type, role: str, ranks: int, log_dir: Path | str, options: Callable[[int], dict[str, Any]]
    ) -> None:
        self.role, self.ranks = role, ranks
        self._worker, self._options = worker, options
        self._logs = [str(Path(log_dir) / f"{role}-{rank}.log") for rank in range(ranks)]
        self._actors: list[Any] = []
        self._nodes = ["an unknown node"] * ranks
        self._failed: LearnerError | None = None

    def spawn(self, threads: int, gpu: bool) -> None:
        """Create the actors."""
        for rank, log in enumerate(self._logs):
            arguments = (rank, self.ranks, log)
            self._actors.append(spawn(self._worker, *arguments, options=self._options(rank), threads=threads, gpu=gpu))

    def locate(self, nodes: Sequence[str]) -> None:
        """Remember where each rank runs, for error messages."""
        self._nodes = list(nodes)

    async def call(self, method: str, *args: Any, deadline: float) -> list[Any]:
        """Run a method on every rank; raises LearnerError, the group ended, on the first failure or at the deadline."""
        if self._failed is not None:
            raise LearnerError(f"the {self.role} group is dead: {self._failed}")
        if not self._actors:
            raise LearnerError(f"the {self.role} group is not running")
        tasks = [asyncio.create_task(reply(getattr(actor, method).remote(*args))) for actor in self._actors]
        try:
            _, pending = await asyncio.wait(tasks, timeout=deadline, return_when=asyncio.FIRST_EXCEPTION)
            if not pending and all(task.exception() is None for task in tasks):
                return [task.result() for task in tasks]
            if any(task.done() and task.exception() is not None for task in tasks):
                await asyncio.wait(tasks, timeout=GRACE)
            self._failed = self._error(method, tasks, deadline)
        finally:
            for task in tasks:
                task.cancel()
        self.kill()
        raise self._failed

    def kill(self) -> None:
        """End every rank at once."""
        for actor in self._actors:
            kill(actor)
        self._actors = []

    def _error(self, method: str, tasks: Sequence[asyncio.Future[Any]], deadline: float) -> LearnerError:
        """The error of the rank that failed first in the causal sense: a death before an exception before silence."""
        errors = {rank: task.exception() for rank, task in enumerate(tasks) if task.done() and not task.cancelled()}
        failed = {rank: error for rank, error in errors.items() if error is not None}
        if not failed:
            late = [rank for rank in range(self.ranks) if rank not in errors]
            where = "; ".join(self._where(rank) for rank in late)
            return LearnerError(f"{self.role}.{method} missed its deadline of {deadline:g} s on {where}")
        rank = min(failed, key=lambda index: (_echo(failed[index]), index))
        final = unborn(failed[rank]) or (method == "load" and _echo(failed[rank]) == 1)
        kind = LoadError if final else LearnerError
        return kind(f"{self.role}.{method} failed on {self._where(rank)}: {_message(failed[rank])}")

    def _where(self, rank: int) -> str:
        return f"rank {rank} of {self.ranks} (node {self._nodes[rank]}, log {self._logs[rank]})"


def _echo(error: BaseException) -> int:
    """0 for a death, 1 for an error of its own, 2 for an error that another rank's end may have caused."""
    if isinstance(error, GONE):
        return 0
    text = str(error).lower()
    return 2 if any(sign in text for sign in ("gloo", "nccl", "connection", "distbackenderror")) else 1


def _message(error: BaseException) -> str:
    if unborn(error):
        return f"its constructor raised {cause_of(error)}"
    if isinstance(error, RayActorError):
        return f"the process died (killed, out of memory, or crashed in native code): {cause_of(error)}"
    return cause_of(error)
