"""The task gate: a rewrite counts where its final answer is the gold one and its reasoning is accepted.

t = v_ans v_rea        v_rea = [p(YES) >= p(NO)] under the frozen base model, asked only where v_ans = 1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raylign.actors.reward.verdicts import Verdicts
from raylign.config.schema import Node, node
from raylign.contracts import RewardFunction
from raylign.recipes.rewriter.bare import bare_of
from raylign.records import Prompt, Trajectory, Value

RIGHT = 1.0 - 1e-6  # of a verifier: from here on an answer counts as right


class Gate(RewardFunction):
    """1 where both checks accept a response to the bare question, else 0.

    Details: ``answer`` and, where that is 1 and there is a check, ``reasoning``.
    """

    @dataclass
    class Config:
        """Who checks; each part gives 1 to what it accepts."""

        answers: Node = node(RewardFunction, "raylign.actors.reward.router.Verifier")
        reasoning: Node = node(RewardFunction)  # empty: the answer alone decides

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._answers = Verdicts(config.answers, "answers")
        self._reasoning = Verdicts(config.reasoning, "reasoning") if config.reasoning else None

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One verdict each. Raises RewardError or JudgeError where a check gives none: absent is not zero."""
        asked = bare_of(prompt)
        right = [value.score >= RIGHT for value in self._answers(asked, trajectories)]
        details: list[dict[str, Any]] = [{"answer": float(each)} for each in right]
        passed = list(right)
        numbers = [number for number, each in enumerate(right) if each]
        if self._reasoning is not None and numbers:
            for number, value in zip(numbers, self._reasoning(asked, [trajectories[n] for n in numbers]), strict=True):
                passed[number] = value.score >= RIGHT
                details[number] |= {"reasoning": float(passed[number]), **value.details}
        return [Value(score=float(t), details=detail) for t, detail in zip(passed, details, strict=True)]

    def gold(self, prompt: Prompt) -> str | None:
        """The answers' own, where nobody asks for its reasoning."""
        return self._answers.function.gold(bare_of(prompt)) if self._reasoning is None else None

    def wrong(self, prompt: Prompt) -> str | None:
        """The answers' own."""
        return self._answers.function.wrong(bare_of(prompt))

    def close(self) -> None:
        """End the children of isolated checks."""
        self._answers.close()
        if self._reasoning is not None:
            self._reasoning.close()
