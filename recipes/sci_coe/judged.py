"""What both rewards share: solutions and strategies of a question are told apart, and a judge fills their matrix."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from raylign.actors.judge.asking import AsksJudge
from raylign.actors.judge.blocking import BlockingJudge
from raylign.actors.rollout.strategies import SingleTurn
from raylign.chat.thoughts import answer_text
from raylign.config.build import named
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.contracts import RewardFunction, Scope
from raylign.data.questions import conversation_of, question_of
from raylign.errors import Problem
from raylign.recipes.sci_coe.geometry import Float64s, Int64s
from raylign.recipes.sci_coe.matrix import Matrix, MatrixJudge, Unparsable, pairs_to_ask
from raylign.recipes.sci_coe.roles import SOLVES, VERIFIES, SolveAndVerify, role_of
from raylign.recipes.sci_coe.strategy_text import Strategy, read_strategy
from raylign.records import Prompt, Trajectory, Value, derive_seed

# Further details of each solution, and of each strategy.
Notes: TypeAlias = tuple[list[dict[str, Any]], list[dict[str, Any]]]
RIGHT = 1.0 - 1e-6  # of who compares answers: from here on a solution counts as right
VOID = -1.0  # reward of a strategy without a word, the least that consistency can be


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The samples of a question by role. Numbers index its trajectories; one of another role is in neither.

    Example: ``Asked(count=3, solvers=[0, 1], verifiers=[2], solutions=["4", "5"], strategies=[Strategy(...)])``
    """

    count: int
    solvers: Sequence[int]
    verifiers: Sequence[int]
    solutions: Sequence[str]
    strategies: Sequence[Strategy]

    @property
    def spoken(self) -> Int64s:
        """Numbers of the strategies that say something."""
        return np.flatnonzero([bool(strategy.text) for strategy in self.strategies])


class Judged(RewardFunction, AsksJudge):
    """Scores solutions and strategies of a question together. A judge that cannot be reached makes the group Missing.

    Details of a solution: ``role``, ``accepted`` and ``judged`` (how many strategies accept it, of how many). Of a
    strategy: ``role``, ``verdicts`` (one a solution; null without), ``stated``, ``void``. Of the first sample, beside
    its own: ``judge``, what the matrix cost.
    """

    scope = Scope.GROUP

    @dataclass
    class Config(AsksJudge.Config):
        """How much is judged, and what strategies may not."""

        solutions_judged: int = 0  # by each strategy, drawn from the prompt's seed; 0: all
        unparsable: Unparsable = Unparsable.leave_out
        stating_costs: float = 0.1  # of a strategy that states the answer, which is cut out of it

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.solutions_judged < 0 or self.stating_costs < 0:
                raise ValueError("solutions_judged and stating_costs must be 0 or more")

    config: Config

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """The judge must be one, and every stage that learns from this reward must sample both roles."""
        findings, name = Findings(), key.removeprefix("rewards.").removesuffix(".fn")
        findings += super().problems(key, config, run)
        for place, part in run.parts.items():
            if issubclass(part.cls, SolveAndVerify) and config.solutions_judged:
                fits = part.config.strategies * config.solutions_judged >= part.config.solutions
                why, fix = f"leaves some of the solutions of {place} without a verdict", f"set {key}.solutions_judged=0"
                findings.expect(fits, f"{key}.solutions_judged", config.solutions_judged, why, fix)
        for stage in run.stages:
            if not run.weights(stage.name).get(name) or "rewards" not in stage.roles:
                continue
            strategy = run.parts.get(f"{stage.key}.strategy") or run.parts.get("rollout.strategy")
            if strategy is not None and strategy.cls is SingleTurn:
                why, fix = f"samples no strategy for {key} to judge by", f"set {strategy.key}._target_="
                findings.expect(False, f"{strategy.key}._target_", "SingleTurn", why, fix + named(SolveAndVerify))
            if vars(stage.config).get("samples") == 1:
                why = f"is a single solution, which {key} has no strategy to judge by"
                fix = f"set stages.{stage.name}.weights to other rewards, or more samples with greedy=false"
                findings.expect(False, f"{stage.key}.samples", 1, why, fix)
        return findings

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._judge = MatrixJudge(BlockingJudge(config.judge), config.unparsable)

    def asked(self, prompt: Prompt, trajectories: Sequence[Trajectory], answers: Collection[str]) -> Asked:
        """The samples by role. answers: that strategies may not state."""
        roles, texts = [role_of(each) for each in trajectories], [answer_text(prompt, each) for each in trajectories]
        solvers = [number for number, role in enumerate(roles) if role == SOLVES]
        verifiers = [number for number, role in enumerate(roles) if role == VERIFIES]
        question = question_of(prompt)
        return Asked(
            count=len(trajectories),
            solvers=solvers,
            verifiers=verifiers,
            solutions=[texts[number].strip() for number in solvers],
            strategies=[read_strategy(texts[number], question, answers) for number in verifiers],
        )

    def matrix(self, prompt: Prompt, asked: Asked) -> Matrix:
        """The verdicts [N, M]: a solution without a word is rejected unasked, a strategy without one gives none."""
        blank = np.array([not solution for solution in asked.solutions], bool)
        spoken = np.isin(np.arange(len(asked.strategies)), asked.spoken)
        pairs = np.zeros((len(blank), len(spoken)), bool)
        seed = derive_seed(0, prompt.key, "pairs")
        pairs[:, spoken] = pairs_to_ask(len(blank), int(spoken.sum()), self.config.solutions_judged, seed)
        texts = [strategy.text for strategy in asked.strategies]
        matrix = self._judge.ask(conversation_of(prompt), asked.solutions, texts, pairs & ~blank[:, None])
        matrix.verdicts[pairs & blank[:, None]] = 0.0
        return matrix

    def values(
        self,
        asked: Asked,
        matrix: Matrix | None,
        solver: Sequence[float | None],
        verifier: Sequence[float | None],
        notes: Notes,
    ) -> list[Value | None]:
        """The rewards in the order of the trajectories, None where they do not apply; what stating costs is taken off.

        solver, verifier: of each role.
        """
        values: list[Value | None] = [None] * asked.count
        for row, (number, score) in enumerate(zip(asked.solvers, solver, strict=True)):
            details = {"role": SOLVES, **_of_solution(matrix, row), **notes[0][row]}
            values[number] = None if score is None else Value(score=score, details=details)
        for column, (number, score) in enumerate(zip(asked.verifiers, verifier, strict=True)):
            strategy = asked.strategies[column]
            marks = {"stated": strategy.stated, "void": not strategy.text}
            details = {"role": VERIFIES, **marks, **_of_strategy(matrix, column), **notes[1][column]}
            cost = self.config.stating_costs * strategy.stated
            values[number] = None if score is None else Value(score=score - cost, details=details)
        return _with_costs(values, matrix)


def _of_solution(matrix: Matrix | None, row: int) -> dict[str, float]:
    if matrix is None:
        return {}
    verdicts = matrix.verdicts[row]
    return {"accepted": float(np.nansum(verdicts)), "judged": float((~np.isnan(verdicts)).sum())}


def _of_strategy(matrix: Matrix | None, column: int) -> dict[str, Any]:
    if matrix is None:
        return {}
    verdicts: Float64s = matrix.verdicts[:, column]
    return {"verdicts": [None if np.isnan(verdict) else int(verdict) for verdict in verdicts]}


def _with_costs(values: list[Value | None], matrix: Matrix | None) -> list[Value | None]:
    """What the matrix cost on the first sample that has a value."""
    first = next((number for number, value in enumerate(values) if value is not None), None)
    if matrix is not None and first is not None:
        value = values[first]
        assert value is not None
        cost = {**matrix.counts.metrics("judge"), "asked": matrix.asked, "unparsable": matrix.unparsable}
        values[first] = Value(score=value.score, details={**value.details, "judge": cost})
    return values
