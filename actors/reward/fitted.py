"""An estimator that a stage fitted, as a reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raylign.chat.thoughts import answer_text
from raylign.config.build import build
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import Node, node
from raylign.contracts import RewardFunction, ScoringEstimator, artifact, finite
from raylign.errors import Problem
from raylign.records import Prompt, Trajectory, Value


class Fitted(RewardFunction):
    """What a fitted estimator says of a response.

    Example::

        rewards:
          taste:
            fn:
              _target_: raylign.actors.reward.fitted.Fitted
              fitted: '@fit'
              estimator: ${stages.fit.estimator}
    """

    @dataclass
    class Config:
        """Which estimator, as it was fitted."""

        fitted: str = artifact("fitted")  # @STAGE of a `Fit`, or the folder that one left
        estimator: Node = node(ScoringEstimator)  # what was fitted there, with its settings

    def __init__(self, config: Config) -> None:
        self.config = config
        self._estimator: ScoringEstimator = build(ScoringEstimator, config.estimator, "fn.estimator")
        self._estimator.load(Path(config.fitted))

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """Both must be named, and a folder be there."""
        findings = Findings(key)
        fix = f"set {key}.fitted=@STAGE, or a folder that a Fit stage left"
        findings.expect(bool(config.fitted), "fitted", "empty", "there is nothing to load", fix)
        there = not config.fitted or config.fitted.startswith("@") or Path(config.fitted).is_dir()
        findings.expect(there, "fitted", config.fitted, "is no folder", fix)
        fix = f"set {key}.estimator='${{stages.FIT.estimator}}'"
        findings.expect(bool(config.estimator), "estimator", "{}", "does not say what was fitted", fix)
        return findings

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One value per trajectory, of all that was answered in it."""
        scores = self._estimator.scores(prompt, [answer_text(prompt, each) for each in trajectories])
        return [
            Value(score=finite(score, "the estimator's score")) for _, score in zip(trajectories, scores, strict=True)
        ]
