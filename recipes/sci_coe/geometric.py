"""Stage 2: no labels. Solutions are paid by consensus, strategies by consistency, reliability and diversity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from raylign.chat.thoughts import answer_text
from raylign.config.build import build
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import Node, node
from raylign.contracts import Embedder
from raylign.errors import Problem
from raylign.recipes.sci_coe.geometry import (
    Combine,
    LabelRule,
    Rules,
    Terms,
    combined,
    consensus,
    normalised,
    pseudo_labels,
    terms,
)
from raylign.recipes.sci_coe.judged import VOID, Judged, Notes
from raylign.recipes.sci_coe.roles import SolveAndVerify
from raylign.recipes.sci_coe.strategy_text import answers_of
from raylign.records import Prompt, Trajectory, Value, derive_seed

WEIGHTS = (1.0, 0.5, 1.0)


class Geometric(Judged):
    """R_s = chat and R_v = w_c C + w_r r + w_d d of `geometry`; the gold answer is never looked at.

    Weights [1, 0, 0] are the naive consensus. Without a strategy that says something, no solution has a reward.
    """

    judges_text = False

    @dataclass
    class Config(Judged.Config):
        """As of all judged rewards, and every choice that changes the number."""

        tau: float = 0.8
        label: LabelRule = LabelRule.relative
        leave_one_out: bool = True  # of use while M is small: a strategy's own votes make it look consistent
        weights: list[float] = field(default_factory=lambda: list(WEIGHTS))  # of consistency, reliability, diversity
        combine: Combine = Combine.sum
        clusters: int = 0  # of strategies; 0: min(5, M // 2)
        embedder: Node = node(Embedder, "raylign.actors.embed.HashedNgrams")

        def __post_init__(self) -> None:
            super().__post_init__()
            if not 0 < self.tau <= 1:
                raise ValueError(f"tau={self.tau} is a share of the strategies: set it above 0 and to at most 1")
            if len(self.weights) != len(WEIGHTS) or min(self.weights) < 0 or not any(self.weights):
                raise ValueError(f"weights={self.weights}: give three, 0 or more and not all 0: of C, r and d")
            if self.combine is Combine.product and tuple(self.weights) != WEIGHTS:
                raise ValueError(f"weights={self.weights} mean nothing to combine=product, which multiplies")
            if self.clusters < 0:
                raise ValueError(f"clusters={self.clusters} must be 0 or more")

    config: Config

    @classmethod
    def problems(cls, key: str, config: Judged.Config, run: Run) -> list[Problem]:
        """Where strategies are compared with one another there must be two."""
        findings = Findings()
        findings += super().problems(key, config, run)
        for place, part in run.parts.items():
            if issubclass(part.cls, SolveAndVerify) and part.config.strategies < 2:
                why, fix = f"is nothing that {key} could compare", f"set {place}.strategies=8"
                findings.expect(False, f"{place}.strategies", part.config.strategies, why, fix)
        return findings

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._embedder: Embedder = build(Embedder, config.embedder, "embedder")
        self._rules = Rules(
            tau=config.tau, label=config.label, leave_one_out=config.leave_one_out, clusters=config.clusters
        )

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value | None]:
        """See the class. Raises JudgeUnavailable without the judge, or without a served embedder."""
        asked = self.asked(prompt, trajectories, answers_of([answer_text(prompt, each) for each in trajectories]))
        spoken = asked.spoken
        notes: Notes = ([{} for _ in asked.solvers], [{} for _ in asked.verifiers])
        if not len(spoken) or not asked.solvers:
            verifier = [None if strategy.text else VOID for strategy in asked.strategies]
            return self.values(asked, None, [None] * len(asked.solvers), verifier, notes)
        matrix = self.matrix(prompt, asked)
        vectors = np.asarray(self._embedder.embed([asked.strategies[j].text for j in spoken]), np.float64)
        parts = terms(matrix.verdicts[:, spoken], vectors, self._rules, derive_seed(0, prompt.key, "k-means"))
        shares = consensus(matrix.verdicts)
        labels = pseudo_labels(shares, self.config.tau, self.config.label)
        weights = (self.config.weights[0], self.config.weights[1], self.config.weights[2])
        scores = np.full(len(asked.strategies), VOID)
        scores[spoken] = combined(parts, weights, self.config.combine)
        for row, note in enumerate(notes[0]):
            note |= {"consensus": float(shares[row]), "label": bool(labels[row])}
        for index, column in enumerate(spoken):
            notes[1][column] |= _terms_of(parts, index)
        solver = [None if np.isnan(share) else float(share) for share in normalised(shares, self.config.tau)]
        return self.values(asked, matrix, solver, scores.tolist(), notes)


def _terms_of(parts: Terms, index: int) -> dict[str, float]:
    return {
        "consistency": float(parts.consistency[index]),
        "reliability": float(parts.reliability[index]),
        "diversity": float(parts.diversity[index]),
        "cluster": int(parts.clusters[index]),
    }
