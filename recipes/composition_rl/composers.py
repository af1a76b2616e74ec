"""Composers as parts of a run."""

from __future__ import annotations

from abc import abstractmethod

from raylign.contracts import Part
from raylign.recipes.composition_rl.compose.chain import Chain
from raylign.recipes.composition_rl.compose.drive import Work
from raylign.recipes.composition_rl.compose.symbolic import RuleComposer


class Composer(Part):
    """Makes one chain of two and asks nobody; see `compose.drive`."""

    what = "a composer that asks no model (for one that does, make a set by the stage ComposeSet)"

    @abstractmethod
    def work(self, first: Chain, second: Chain) -> Work:
        """The requests of one composition; returns the chain or why it was dropped."""


class SymbolicComposer(RuleComposer, Composer):
    """Composes by the rules of `compose.symbolic`."""
