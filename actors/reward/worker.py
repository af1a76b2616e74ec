"""The reward actor: scores batches, one item after another, and turns every failure of the function into an outcome."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylign.actors.reward.isolate import IsolatedFunction
from raylign.actors.reward.outcome import Failed, FailureKind, Item, Outcome, checked, failed
from raylign.actors.reward.response import trajectory_of
from raylign.actors.reward.validate import Probe, probes
from raylign.config.build import build
from raylign.contracts import RewardFunction, Scope
from raylign.records import Prompt, Value
from raylign.telemetry.logs import redirect_output


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """What a pool needs to know of its function."""

    scope: Scope
    isolated: bool
    maximum: float
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
        self._isolated = IsolatedFunction(node, key) if self._function.isolated else None

    def report(self) -> WorkerReport:
        """Scope, isolation and maximum of the function; an answer means that the worker is ready."""
        return WorkerReport(
            scope=self._function.scope,
            isolated=self._isolated is not None,
            maximum=self._function.maximum,
            pid=os.getpid(),
        )

    def probes(self, prompts: Sequence[Prompt]) -> tuple[list[Probe], list[str]]:
        """Responses with known scores, for the pool to send through the normal path."""
        return probes(self._function, prompts)

    def score(self, batch: Sequence[Item]) -> tuple[list[Outcome], int]:
        """Outcomes of the first items of a batch, and children replaced so far.

        Stops early once the batch has taken longer than one item may: the rest is for the pool to send again, so that
        no call lasts much longer than two deadlines.
        """
        started = time.monotonic()
        outcomes: list[Outcome] = []
        for item in batch:
            if outcomes and time.monotonic() - started > self._timeout_s:
                break
            outcomes.append(self._one(item))
        return outcomes, self._isolated.restarts if self._isolated else 0

    def _one(self, item: Item) -> Outcome:
        if self._isolated is not None:
            return self._isolated_verdict(self._isolated, item)
        prompt, trajectories = item
        try:
            return checked(self._function.score(prompt, trajectories), trajectories)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - becomes the outcome
            return failed(error)

    def _isolated_verdict(self, function: IsolatedFunction, item: Item) -> Outcome:
        """A verifier's verdict on an answer that costs too much, or ends the process each time, is 0.

        But only while the gold answer passes: what no answer can pass is the gold's or the verifier's fault.
        """
        prompt, trajectories = item
        cpu_s = self._function.cpu_limit(prompt)
        outcome = function.score(item, self._timeout_s, cpu_s)
        if isinstance(outcome, Failed) and outcome.kind is FailureKind.DIED and cpu_s is not None:
            outcome = function.score(item, self._timeout_s, cpu_s)  # it may have been killed from outside
        if not isinstance(outcome, Failed) or cpu_s is None:
            return outcome
        if outcome.kind not in (FailureKind.COSTLY, FailureKind.DIED):
            return outcome
        try:
            gold = self._function.gold(prompt)
        except Exception as error:  # noqa: BLE001 - becomes the outcome
            return failed(error)
        if gold is not None:
            proof = function.score((prompt, (trajectory_of(prompt, gold),)), self._timeout_s, cpu_s)
            if isinstance(proof, Failed):
                return Failed(kind=FailureKind.ERROR, reason=f"the gold answer cannot be judged: {proof.reason}")
        return tuple(Value(score=0.0, details={"failed": outcome.reason}) for _ in trajectories)
