"""Composers as parts of a run, and what a stage brings of its own that has a model compose."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.contracts import Part
from raylign.errors import Problem
from raylign.recipes.composition_rl.compose.chain import Chain
from raylign.recipes.composition_rl.compose.drive import Work
from raylign.recipes.composition_rl.compose.symbolic import RuleComposer

TOGETHER = {"view": "ChainsToCompose", "strategy": "ComposeRollout", "keep": "ComposedChains"}


class Composer(Part):
    """Makes one chain of two and asks nobody; see `compose.drive`."""

    what = "a composer that asks no model (for one that does, make a set in advance by ComposeRollout)"

    @abstractmethod
    def work(self, first: Chain, second: Chain) -> Work:
        """The requests of one composition; returns the chain or why it was dropped."""


class SymbolicComposer(RuleComposer, Composer):
    """Composes by the rules of `compose.symbolic`."""


class Composing(Part):
    """One of the parts that a stage takes together."""

    @classmethod
    def problems(cls, key: str, config: Any, run: Run) -> list[Problem]:
        """The others are there; a stage that writes no rows keeps none."""
        stage, findings = key.rpartition(".")[0], Findings()
        for name, wanted in TOGETHER.items() if stage in run.parts else ():
            part, place = run.parts.get(f"{stage}.{name}"), f"{stage}.{name}"
            fits = part is not None and issubclass(part.cls, Composing)
            why = f"composing takes {', '.join(TOGETHER)} of a stage's own together"
            fix = f"set {place}._target_=raylign.recipes.composition_rl.{wanted}"
            if part or name != "keep":
                findings.expect(fits, place, part.cls.__name__ if part else "none", why, fix)
        return findings
