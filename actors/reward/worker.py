"""The reward actor: scores batches, one item after another, and turns every failure of the function into an outcome."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylign.actors.reward.isolate import IsolatedFunction
from raylign.actors.reward.outcome import Item, Outcome, checked, failed
from raylign.actors.reward.validate import Probe, probes
from raylign.actors.reward.verdicts import isolated_verdict
from raylign.config.build import build
from raylign.contracts import RewardFunction, Scope
from raylign.errors import RewardError
from raylign.records import Prompt, Trajectory
from raylign.telemetry.logs import redirect_output


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """What a pool needs to know of its function."""

    scope: Scope
    isolated: bool
    maximum: float
    batched: bool
    pid: int


class RewardWorker:
    """A plain synchronous Ray actor: `signal.alarm`, which some functions use, needs the main thread.

    An isolated function runs in a child process that the worker kills at the deadline. Any other function runs here,
    and the pool kills the whole actor when it hangs.
    """

    def __init__(self, node: Mapping[str, Any], key: str, timeout_s: float, log: str) -> None:
        if log:
            redirect_output(log)
        self._timeout_s = timeout_s
        self._function = build(RewardFunction, node, key)
        if self._function.isolated and self._function.batched:
            what = type(self._function).__name__
            raise RewardError(
                f"{key}: {what} is isolated and batched, and a child scores one item at a time; fix: drop one"
            )
        self._isolated = IsolatedFunction(node, key) if self._function.isolated else None

    def report(self) -> WorkerReport:
        """Scope, isolation and maximum of the function; an answer means that the worker is ready."""
        function = self._function
        return WorkerReport(
            scope=function.scope,
            isolated=function.isolated,
            maximum=function.maximum,
            batched=function.batched,
            pid=os.getpid(),
        )

    def probes(self, prompts: Sequence[Prompt]) -> tuple[list[Probe], list[str]]:
        """Responses with known scores, for the pool to send through the normal path."""
        return probes(self._function, prompts)

    def score(self, batch: Sequence[Item]) -> tuple[list[Outcome], int]:
        """Outcomes of the first items of a batch, and children replaced so far.

        Stops early once the batch has taken longer than one item may: the rest is for the pool to send again, so that
        no call lasts much longer than two deadlines. A batched function gets all of it at once, and each item alone
        where that raises.
        """
        together = self._together(batch) if self._function.batched and len(batch) > 1 else None
        if together is not None:
            return together, 0
        started = time.monotonic()
        outcomes: list[Outcome] = []
        for item in batch:
            late = time.monotonic() - started > self._timeout_s
            if outcomes and late and not self._function.batched:
                break
            outcomes.append(self._one(item))
        return outcomes, self._isolated.restarts if self._isolated else 0

    def _together(self, batch: Sequence[Item]) -> list[Outcome] | None:
        """Outcomes of one call; None where it raised: any of the items may be why."""
        try:
            results = list(self._function.score_batch(batch))
            if len(results) != len(batch):
                raise ValueError(f"score_batch gave {len(results)} results for {len(batch)} items")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - each item has its own chance
            failed(error)  # its traceback goes to the log
            return None
        return [_outcome(result, trajectories) for result, (_, trajectories) in zip(results, batch, strict=True)]

    def _one(self, item: Item) -> Outcome:
        if self._isolated is not None:
            return isolated_verdict(self._function, self._isolated, item, self._timeout_s)
        prompt, trajectories = item
        try:
            return checked(self._function.score(prompt, trajectories), trajectories)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - becomes the outcome
            return failed(error)


def _outcome(result: Any, trajectories: Sequence[Trajectory]) -> Outcome:
    """Of one item of a batch, for which the function gave its values or an exception."""
    try:
        if isinstance(result, Exception):
            raise result
        return checked(result, trajectories)
    except Exception as error:  # noqa: BLE001 - becomes the outcome
        return failed(error)
