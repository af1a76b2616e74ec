"""Verdicts of a reward function for another one, or for a worker: from a killable child where it is isolated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raylign.actors.reward.isolate import IsolatedFunction
from raylign.actors.reward.outcome import Failed, FailureKind, Item, Outcome, checked, failed
from raylign.actors.reward.response import trajectory_of
from raylign.config.build import build
from raylign.contracts import RewardFunction, Scope
from raylign.errors import RewardError
from raylign.records import Prompt, Trajectory, Value

LONGEST_S = 60.0  # of one verdict in the child, the wait for a busy machine included


class Verdicts:
    """The function behind a node, for a reward that is made of others' verdicts.

    One of scope `trajectory` is asked about each trajectory alone. Make it in the thread that asks.
    """

    def __init__(self, node: Mapping[str, Any], key: str) -> None:
        self._key = key
        self.function: RewardFunction = build(RewardFunction, node, key)
        self._child = IsolatedFunction(node, key) if self.function.isolated else None

    def __call__(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One value for each. Raises RewardError where the function has none, JudgeError as the function does."""
        if self.function.scope is Scope.GROUP:
            return self._of((prompt, tuple(trajectories)))
        return [value for trajectory in trajectories for value in self._of((prompt, (trajectory,)))]

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.close()

    def _of(self, item: Item) -> list[Value]:
        if self._child is None:
            outcome: Outcome = checked(self.function.score(*item), item[1])
        else:
            outcome = isolated_verdict(self.function, self._child, item, LONGEST_S)
        if isinstance(outcome, Failed):
            raise RewardError(f"{self._key} fails ({outcome.kind.value}): {outcome.reason}")
        values = [value for value in outcome if value is not None]
        if len(values) < len(outcome):
            raise RewardError(f"{self._key} does not apply to a sample of {item[0].key}")
        return values


def isolated_verdict(function: RewardFunction, child: IsolatedFunction, item: Item, timeout_s: float) -> Outcome:
    """A verifier's verdict on an answer that costs too much, or ends the process each time, is 0.

    But only while the gold answer passes: what no answer can pass is the gold's or the verifier's fault.
    """
    prompt, trajectories = item
    cpu_s = function.cpu_limit(prompt)
    outcome = child.score(item, timeout_s, cpu_s)
    if isinstance(outcome, Failed) and outcome.kind is FailureKind.DIED and cpu_s is not None:
        outcome = child.score(item, timeout_s, cpu_s)  # it may have been killed from outside
    if not isinstance(outcome, Failed) or cpu_s is None:
        return outcome
    if outcome.kind not in (FailureKind.COSTLY, FailureKind.DIED):
        return outcome
    try:
        gold = function.gold(prompt)
    except Exception as error:  # noqa: BLE001 - becomes the outcome
        return failed(error)
    if gold is not None:
        proof = child.score((prompt, (trajectory_of(prompt, gold),)), timeout_s, cpu_s)
        if isinstance(proof, Failed):
            return Failed(kind=FailureKind.ERROR, reason=f"the gold answer cannot be judged: {proof.reason}")
    return tuple(Value(score=0.0, details={"failed": outcome.reason}) for _ in trajectories)
